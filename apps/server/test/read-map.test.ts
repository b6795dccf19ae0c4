import { expect, test } from 'vitest';
import { ReadMapSum } from '../src/read-map.js';

test('a read map tells the passages above a trace, in order, as the mean over tokens', () => {
  const sum = new ReadMapSum();
  sum.add(Float32Array.of(0.2, 0.0004, 0.1));
  sum.add(Float32Array.of(0.4, 0.0005, 0.123456, 0.5));
  expect(sum.take()).toEqual([
    [0, 0.3],
    [2, 0.11173],
    [3, 0.25],
  ]);
});

test('what was taken is not told again', () => {
  const sum = new ReadMapSum();
  sum.add(Float32Array.of(1, 0));
  sum.take();
  expect(sum.take()).toBeNull();
  sum.add(Float32Array.of(0, 1));
  expect(sum.take()).toEqual([[1, 1]]);
});

test('a device has no maps', () => {
  const sum = new ReadMapSum();
  sum.add(null);
  expect(sum.take()).toBeNull();
});
