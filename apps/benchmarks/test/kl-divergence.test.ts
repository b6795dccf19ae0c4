import { expect, test } from 'vitest';
import { argmax, klDivergence } from '../src/kl-divergence.js';

test('is zero for equal distributions, whatever is added to all logits', () => {
  const logits = Float32Array.of(1, 2, 3);
  expect(klDivergence(logits, logits)).toBe(0);
  expect(klDivergence(logits, Float32Array.of(101, 102, 103))).toBeCloseTo(0, 12);
});

test('is the known value for two coins, and is not symmetric', () => {
  const even = Float32Array.of(0, 0);
  const biased = Float32Array.of(Math.log(3), 0); // 3/4, 1/4
  expect(klDivergence(even, biased)).toBeCloseTo(0.5 * Math.log(2 / 3) + 0.5 * Math.log(2), 6);
  expect(klDivergence(biased, even)).toBeCloseTo(0.75 * Math.log(1.5) + 0.25 * Math.log(0.5), 6);
});

test('the smallest id wins a tie', () => {
  expect(argmax(Float32Array.of(1, 5, 5, 2))).toBe(1);
});

test('two vocabularies are refused', () => {
  expect(() => klDivergence(new Float32Array(2), new Float32Array(3))).toThrow(RangeError);
});
