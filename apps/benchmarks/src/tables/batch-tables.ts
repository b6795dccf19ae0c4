/** Several sequences, as tables. */
import type { BatchResult, BesidePrefillRow } from '../suites/batch-result.js';
import { benchTable } from './bench-table.js';
import { contender, figure } from './cells.js';
import { makeTable, type Table } from './table.js';

export function batchTables(result: Pick<BatchResult, 'context' | 'sequences' | 'rows' | 'besidePrefill'>): Table[] {
  const { context, sequences, rows, besidePrefill } = result;
  const together = benchTable(`${sequences} sequences of ${context} tokens, all together`, 'ms/token', rows);
  if (besidePrefill.length === 0) return [together];
  const beside = makeTable<BesidePrefillRow>(
    `one sequence of ${context} tokens while another one prefills ${context}`,
    [
      ['', contender],
      ['threads', (row) => figure(row.threads)],
      ['batch', (row) => figure(row.batchSize)],
      ['alone ms', (row) => figure(row.aloneMs)],
      ['beside ms', (row) => figure(row.medianMs)],
      ['p95', (row) => figure(row.p95Ms)],
      ['max', (row) => figure(row.maxMs)],
      ['p95 / alone', (row) => figure(row.p95ToAlone)],
      ['tokens', (row) => figure(row.numSamples)],
      ['prefill ms', (row) => figure(row.prefillMs)],
    ],
    besidePrefill,
  );
  return [together, beside];
}
