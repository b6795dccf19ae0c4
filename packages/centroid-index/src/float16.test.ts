import { expect, it } from 'vitest';
import { decodeFloat16, encodeFloat16, roundToFloat16 } from './float16.js';

it('every finite f16 comes back', () => {
  for (let bits = 0; bits < 0x1_0000; bits++) {
    const x = decodeFloat16(bits);
    if (Number.isFinite(x)) expect(encodeFloat16(x)).toBe(bits);
  }
});

it.each([
  [1, 1],
  [-2.5, -2.5],
  // Halfway between neighbours: to the even one.
  [1 + 2 ** -11, 1],
  [1 + 3 * 2 ** -11, 1 + 2 ** -9],
  [2 - 2 ** -12, 2],
  [0.1, 0.0999755859375],
  // Subnormal.
  [3 * 2 ** -25, 2 ** -23],
  [2 ** -25, 0],
  [2 ** -14 - 2 ** -25, 2 ** -14],
  [2 ** -140, 0],
  // Beyond the largest.
  [65_519, 65_504],
  [-1e30, -65_504],
])('%f is kept as %f', (x, kept) => {
  expect(roundToFloat16(x)).toBe(kept);
});

it('infinity and no number are read as such', () => {
  expect([0x7c00, 0xfc00, 0x7c01].map(decodeFloat16)).toEqual([
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
  ]);
});
