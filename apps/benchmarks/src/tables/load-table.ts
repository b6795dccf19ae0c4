/** From nothing to the first token, as a table. */
import type { LoadResult, LoadRow } from '../suites/load-result.js';
import { contender, figure } from './cells.js';
import { makeTable, type Table } from './table.js';

export function loadTable({ promptTokens, rows }: Pick<LoadResult, 'promptTokens' | 'rows'>): Table {
  return makeTable<LoadRow>(
    `from the start of a process to the first token of ${promptTokens}`,
    [
      ['', contender],
      ['threads', (row) => figure(row.threads)],
      ['total ms', (row) => figure(row.totalMs.median)],
      ['p10', (row) => figure(row.totalMs.p10)],
      ['p90', (row) => figure(row.totalMs.p90)],
      ['load ms', (row) => figure(row.loadMs)],
      ['first token ms', (row) => figure(row.firstTokenMs)],
      ['x peer', (row) => figure(row.ratioToPeer)],
      ['peak MB', (row) => figure(Math.round(row.peakMemoryBytes / 1e6))],
    ],
    rows,
  );
}
