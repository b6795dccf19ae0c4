/** A token's time where cores are shared, as a table. */
import { countOf } from '@ctkvr/core';
import type { SharedCoresResult, SharedCoresRow } from '../suites/shared-cores-result.js';
import { figure } from './cells.js';
import { makeTable, type Table } from './table.js';

export function sharedCoresTable({ context, rows }: Pick<SharedCoresResult, 'context' | 'rows'>): Table {
  return makeTable<SharedCoresRow>(
    `a token after ${context} tokens, with ${countOf(rows[0]?.threads ?? 1, 'thread')}`,
    [
      ['beside', (row) => row.beside],
      ['ms/token', (row) => figure(row.msPerToken.median)],
      ['p10', (row) => figure(row.msPerToken.p10)],
      ['p90', (row) => figure(row.msPerToken.p90)],
      ['x alone', (row) => figure(row.ratioToAlone)],
    ],
    rows,
  );
}
