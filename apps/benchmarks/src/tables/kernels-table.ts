/** The kernels alone, as tables. */
import { countOf } from '@ctkvr/core';
import type { KernelRow, KernelsResult } from '../suites/kernels-result.js';
import { figure, limitShare } from './cells.js';
import { makeTable, type Table } from './table.js';

export function kernelsTables({
  threads,
  bandwidthGBps,
  peaks,
  rows,
}: Pick<KernelsResult, 'threads' | 'bandwidthGBps' | 'peaks' | 'rows'>): Table[] {
  const limits: readonly (readonly [string, string])[] = [
    ['memory, GB/s', figure(bandwidthGBps)],
    ...peaks.map(({ isa, dtype, gflops }) => [`${dtype} multiply-adds with ${isa}, GFLOP/s`, figure(gflops)] as const),
  ];
  return [
    makeTable(
      `limits of ${countOf(threads, 'thread')}`,
      [
        ['', ([what]) => what],
        ['', ([, value]) => value],
      ],
      limits,
    ),
    makeTable<KernelRow>(
      `kernels on ${countOf(threads, 'thread')}`,
      [
        ['', (row) => row.kernel],
        ['rows', (row) => row.rows ?? '-'],
        ['data in', (row) => row.data],
        ['set', (row) => row.isa],
        ['GB/s', (row) => figure(row.gigabytesPerSecond)],
        ['GFLOP/s', (row) => figure(row.gflops)],
        ['% of limit', limitShare],
        ['ms', (row) => figure(row.medianMs)],
        ['p10', (row) => figure(row.p10)],
        ['p90', (row) => figure(row.p90)],
      ],
      rows,
    ),
  ];
}
