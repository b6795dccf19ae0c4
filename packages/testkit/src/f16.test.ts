import { describe, expect, it } from 'vitest';
import { f16Bits, f16Value, roundToF16 } from './f16.js';

describe('f16', () => {
  it('every finite pattern comes back as itself', () => {
    for (let bits = 0; bits < 0x10000; bits++) {
      if ((bits & 0x7c00) === 0x7c00) continue;
      expect(f16Bits(f16Value(bits))).toBe(bits);
    }
  });
  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519, 0x7bff],
    [65520, 0x7c00],
    [Number.NEGATIVE_INFINITY, 0xfc00],
    [2 ** -24, 1],
    [2 ** -25, 0],
    [1.5 * 2 ** -24, 2],
    [2 ** -14, 0x0400],
    [2 ** -14 - 2 ** -26, 0x0400],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [2 - 2 ** -11, 0x4000],
    [-0, 0x8000],
    [1e-30, 0],
  ])('%d has the pattern %i', (value, bits) => {
    expect(f16Bits(value)).toBe(bits);
  });
  it('NaN stays NaN', () => {
    expect(f16Value(f16Bits(Number.NaN))).toBeNaN();
  });
  it('rounding moves a number by at most half a unit in the last place', () => {
    for (let x = -3; x < 3; x += 0.00137) {
      const rounded = roundToF16(Float32Array.of(x))[0]!;
      expect(Math.abs(rounded - x)).toBeLessThanOrEqual(Math.max(Math.abs(x) * 2 ** -11, 2 ** -25) * 1.001);
    }
  });
});
