import { describe, expect, it } from 'vitest';
import { Int8Rows } from './int8-rows.js';

describe('Int8Rows', () => {
  it('rounds halves away from zero, and the largest magnitude is code 127', () => {
    const rows = new Int8Rows(1, 5);
    rows.store(0, Float32Array.of(127, 2.5, -2.5, 2.4, -127));
    expect(rows.scales[0]).toBe(1);
    expect(Array.from(rows.codes)).toEqual([127, 3, -3, 2, -127]);
  });
  it('a vector of zeros has scale 0 and codes 0', () => {
    const rows = new Int8Rows(2, 3);
    rows.store(1, new Float32Array(3));
    expect(Array.from(rows.scales)).toEqual([0, 0]);
    expect(rows.dot(1, Float32Array.of(1, 2, 3))).toBe(0);
  });
  it('every component comes back within half a step', () => {
    const rows = new Int8Rows(1, 4);
    const vector = Float32Array.of(0.3, -1.27, 0.0051, 1);
    rows.store(0, vector);
    for (let d = 0; d < 4; d++) {
      const component = rows.dot(
        0,
        vector.map((_, i) => Number(i === d)),
      );
      expect(Math.abs(component - vector[d]!)).toBeLessThanOrEqual(1.27 / 254 + 1e-7);
    }
  });
});
