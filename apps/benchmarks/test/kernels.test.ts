import { expect, test } from 'vitest';
import { bestPeak } from '../src/arithmetic-peak.js';
import type { KernelLine, PeakLine, ProductType } from '../src/kernels-example.js';
import { toKernelFindings } from '../src/suites/kernels.js';
import { limitsOf, prefillLimitsOf, shareOfLimit } from '../src/suites/limits.js';
import { decodeOperations, prefillOperations } from '../src/suites/token-operations.js';
import { kernelsTables } from '../src/tables/kernels-table.js';

const peak = (isa: string, gflops: number, dtype: ProductType = 'f32'): PeakLine => ({
  ...{ type: 'peak', isa, dtype, threads: 2, gflops },
});
const line = (more: Partial<KernelLine>): KernelLine => ({
  type: 'kernel',
  kernel: 'score_rows',
  rows: 'contiguous',
  data: 'memory',
  dtype: 'f32',
  isa: 'avx2',
  threads: 2,
  bytes: 100e6,
  flops: 1e9,
  medianMs: 40,
  p10Ms: 30,
  p90Ms: 50,
  numSamples: 5,
  ...more,
});

test('the peak is that of the fastest instruction set, bf16 apart', () => {
  const lines = [peak('scalar', 40), peak('avx512', 100.04), peak('avx2', 99)];
  expect(bestPeak(lines)).toEqual({ gflops: 100, isa: 'avx512', bf16Gflops: null, numThreads: 2 });
  expect(bestPeak([...lines, peak('avx512bf16', 200, 'bf16')])).toMatchObject({ gflops: 100, bf16Gflops: 200 });
  expect(bestPeak([line({})])).toBeNull();
});

test('a kernel is compared with the nearer limit, and in a cache with arithmetic only', () => {
  const lines = [
    peak('avx2', 50), // 1e9 operations take 20 ms
    line({}),
    line({ flops: 1e8 }),
    line({ flops: 1e8, data: 'cache' }),
    line({ flops: 0, data: 'cache' }),
    peak('avx512bf16', 100, 'bf16'),
    line({ dtype: 'bf16', data: 'cache' }),
    peak('avx512vnni', 200, 'int8'),
    line({ dtype: 'int8', data: 'cache' }),
  ];
  const { rows, peaks } = toKernelFindings(lines, 10); // 100 MB take 10 ms
  expect(peaks).toEqual([
    { isa: 'avx2', dtype: 'f32', gflops: 50 },
    { isa: 'avx512bf16', dtype: 'bf16', gflops: 100 },
    { isa: 'avx512vnni', dtype: 'int8', gflops: 200 },
  ]);
  expect(rows.map((row) => [row.shareOfLimit, row.limit, row.gflops])).toEqual([
    [0.5, 'arithmetic', 25],
    [0.25, 'memory', 2.5],
    [0.05, 'arithmetic', 2.5],
    [null, null, null],
    [0.25, 'arithmetic', 25],
    [0.125, 'arithmetic', 25],
  ]);
  expect(rows[0]!.gigabytesPerSecond).toBe(2.5);
});

test('a limit that was not measured limits nothing', () => {
  const limits = limitsOf({ memory: { bandwidthGBps: 10 } });
  expect(limits.gflops).toBeNull();
  expect(shareOfLimit({ bytes: null, operations: 1e9 }, 10, limits)).toBeNull();
  expect(shareOfLimit({ bytes: 50e6, operations: 1e9 }, 10, limits)).toEqual({ shareOfLimit: 0.5, limit: 'memory' });
});

test('a prefill is held against the peak of bf16, where there is one', () => {
  const machine = { memory: { bandwidthGBps: 10 }, arithmetic: { gflops: 50, bf16Gflops: 100 } };
  expect(limitsOf(machine).gflops).toBe(50);
  expect(prefillLimitsOf(machine).gflops).toBe(100);
  expect(prefillLimitsOf({ ...machine, arithmetic: { gflops: 50, bf16Gflops: null } }).gflops).toBe(50);
  expect(prefillLimitsOf({ memory: machine.memory }).gflops).toBeNull();
});

test('operations count weights twice a token, the output once a prompt, and the keys each token sees', () => {
  const sizes = { numParameters: 1100, vocabSize: 10, embeddingLength: 10, numLayers: 2, numQueryHeads: 3, headDim: 4 };
  expect(decodeOperations(sizes)).toBe(2200);
  expect(prefillOperations(sizes, 5)).toBe(2 * 1000 * 5 + 2 * 100 + 4 * 2 * 3 * 4 * 15);
});

test('the tables have a row for each limit and each kernel', () => {
  const findings = toKernelFindings([peak('scalar', 4), peak('avx2', 50), line({})], 10);
  const tables = kernelsTables({ ...findings, threads: 2 });
  expect(tables.map(({ rows }) => rows.length)).toEqual([3, 1]);
  expect(tables[1]!.rows[0]).toEqual([
    ...['score_rows', 'contiguous', 'memory', 'avx2', '2.5', '25', '50 % arithmetic', '40', '30', '50'],
  ]);
});
