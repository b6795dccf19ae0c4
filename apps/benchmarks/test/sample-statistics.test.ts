import { expect, test } from 'vitest';
import { sampleStatistics } from '../src/sample-statistics.js';

test('median and percentiles lie between the nearest ranks, whatever the order', () => {
  const samples = Array.from({ length: 11 }, (_, index) => index * 10).reverse();
  expect(sampleStatistics(samples)).toEqual({ median: 50, p10: 10, p90: 90, numSamples: 11 });
  expect(sampleStatistics([1, 2]).median).toBe(1.5);
  expect(sampleStatistics([7])).toEqual({ median: 7, p10: 7, p90: 7, numSamples: 1 });
});

test('one outlier does not move the median', () => {
  expect(sampleStatistics([10, 10, 10, 10, 9000]).median).toBe(10);
});

test('nothing measured is an error, not NaN', () => {
  expect(() => sampleStatistics([])).toThrow(RangeError);
});
