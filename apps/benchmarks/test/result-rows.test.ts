import { expect, test } from 'vitest';
import { type RowInput, toRows } from '../src/suites/result.js';

const input = (name: RowInput['name'], median: number, more: Partial<RowInput> = {}): RowInput => ({
  name,
  threads: 2,
  statistics: { median, p10: median, p90: median, numSamples: 3 },
  tokensPerSample: 1,
  peakMemoryBytes: 1,
  ...more,
});

test('ratios are to the fastest row of the peer', () => {
  const rows = toRows(
    [
      input('full', 40),
      input('ctkvr', 10),
      input('node-llama-cpp', 50, { flashAttention: true }),
      input('node-llama-cpp', 30, { flashAttention: false }),
    ],
    10,
  );
  expect(rows.map((row) => row.ratioToPeer)).toEqual([0.75, 3, 0.6, 1]);
});

test('without the peer there is no ratio', () => {
  expect(toRows([input('full', 40)], 10)[0]?.ratioToPeer).toBeNull();
});

test('the limit is the time that reading the bytes takes', () => {
  const [row] = toRows([input('full', 40, { bytesPerToken: 100e6 })], 10); // 100 MB at 10 GB/s: 10 ms
  expect(row?.shareOfLimit).toBe(0.25);
});

test('a rate counts the tokens a sample stands for', () => {
  const [row] = toRows([input('ctkvr', 2000, { tokensPerSample: 500 })], 10);
  expect(row?.tokensPerSecond).toBe(250);
});
