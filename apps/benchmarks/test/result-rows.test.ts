import { expect, test } from 'vitest';
import { type RowInput, toRows } from '../src/suites/bench-row.js';

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
    { bandwidthGBps: 10, gflops: 50 },
  );
  expect(rows.map((row) => row.ratioToPeer)).toEqual([0.75, 3, 0.6, 1]);
});

test('without the peer there is no ratio', () => {
  expect(toRows([input('full', 40)], { bandwidthGBps: 10, gflops: 50 })[0]?.ratioToPeer).toBeNull();
});

test('the limit is the nearer one of memory and arithmetic', () => {
  const [row] = toRows([input('full', 40, { bytesPerToken: 100e6 })], { bandwidthGBps: 10, gflops: 50 }); // 100 MB at 10 GB/s: 10 ms
  expect([row?.shareOfLimit, row?.limit]).toEqual([0.25, 'memory']);
  const limits = { bandwidthGBps: 10, gflops: 50 };
  const [other] = toRows([input('full', 40, { bytesPerToken: 100e6, operations: 1e9 })], limits); // 20 ms at 50 GFLOP/s
  expect([other?.shareOfLimit, other?.limit]).toEqual([0.5, 'arithmetic']);
  const [unknown] = toRows([input('full', 40)], limits);
  expect([unknown?.shareOfLimit, unknown?.limit]).toEqual([null, null]);
});

test('a rate counts the tokens a sample stands for', () => {
  const [row] = toRows([input('ctkvr', 2000, { tokensPerSample: 500 })], { bandwidthGBps: 10, gflops: 50 });
  expect(row?.tokensPerSecond).toBe(250);
});
