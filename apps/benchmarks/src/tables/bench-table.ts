/** One figure for each contender, as a table. */
import type { BenchRow } from '../suites/bench-row.js';
import { contender, figure, kl, limitShare } from './cells.js';
import { makeTable, type Table } from './table.js';

/** @param time what `medianMs` is of. */
export function benchTable(title: string, time: string, rows: readonly BenchRow[]): Table {
  return makeTable<BenchRow>(
    title,
    [
      ['', contender],
      ['threads', (row) => figure(row.threads)],
      [time, (row) => figure(row.medianMs)],
      ['p10', (row) => figure(row.p10)],
      ['p90', (row) => figure(row.p90)],
      ['tokens/s', (row) => figure(row.tokensPerSecond)],
      ['x peer', (row) => figure(row.ratioToPeer)],
      ['KL to full', (row) => kl(row.meanKlToFull)],
      ['% of limit', limitShare],
      ['peak MB', (row) => figure(Math.round(row.peakMemoryBytes / 1e6))],
    ],
    rows,
  );
}
