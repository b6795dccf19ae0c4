/** The result of `same-bits` as a table. */
import { countOf } from '@ctkvr/core';
import type { SameBitsResult, SameBitsRow } from '../suites/same-bits-result.js';
import { figure } from './cells.js';
import { makeTable, type Table } from './table.js';

export function sameBitsTable({ tokensPerAnswer, rows }: Pick<SameBitsResult, 'tokensPerAnswer' | 'rows'>): Table {
  return makeTable<SameBitsRow>(
    `greedy answers of ${tokensPerAnswer} tokens that are as those of one client and ${countOf(rows[0]?.threads ?? 1, 'thread')}`,
    [
      ['threads, clients', (row) => `${row.threads}, ${row.clients}`],
      ['most in a step', (row) => figure(row.mostInStep)],
      ['answers', (row) => figure(row.numAnswers)],
      ['same tokens', (row) => figure(row.sameTokens)],
      ['same bits', (row) => figure(row.sameBits)],
    ],
    rows,
  );
}
