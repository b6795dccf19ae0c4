import { describe, expect, it } from 'vitest';
import { createRandom } from './random.js';

describe('createRandom', () => {
  const draw = (seed: number, n: number) => {
    const random = createRandom(seed);
    return Array.from({ length: n }, () => random.uniform());
  };
  it('the same seed gives the same numbers, another one others', () => {
    expect(draw(3, 10)).toEqual(draw(3, 10));
    expect(draw(3, 10)).not.toEqual(draw(4, 10));
  });
  it('has the moments of its distributions', () => {
    const uniform = draw(1, 20_000);
    const mean = uniform.reduce((sum, x) => sum + x, 0) / uniform.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.01);
    const random = createRandom(2);
    const normal = Array.from({ length: 20_000 }, () => random.normal());
    const variance = normal.reduce((sum, x) => sum + x * x, 0) / normal.length;
    expect(Math.abs(variance - 1)).toBeLessThan(0.05);
  });
  it('integers cover both ends', () => {
    const random = createRandom(5);
    expect([...new Set(Array.from({ length: 200 }, () => random.integer(-2, 2)))].sort((a, b) => a - b)).toEqual([
      -2, -1, 0, 1, 2,
    ]);
  });
});
