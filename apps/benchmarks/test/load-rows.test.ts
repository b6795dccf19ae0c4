import { expect, test } from 'vitest';
import { type LoadSample, toLoadRows } from '../src/suites/load.js';
import { loadTable } from '../src/tables/load-table.js';

const sample = (totalMs: number, peakMemoryBytes = 1e8): LoadSample => ({
  totalMs,
  loadMs: totalMs / 2,
  firstTokenMs: totalMs / 4,
  threads: 2,
  peakMemoryBytes,
});

test('a row has the medians of its starts, and the ratio to the peer', () => {
  const rows = toLoadRows(
    { ctkvr: [sample(300), sample(200), sample(100, 2e8)], 'node-llama-cpp': [sample(800), sample(400), sample(400)] },
    true,
  );
  expect(rows).toEqual([
    {
      name: 'ctkvr',
      threads: 2,
      flashAttention: null,
      totalMs: { median: 200, p10: 120, p90: 280, numSamples: 3 },
      loadMs: 100,
      firstTokenMs: 50,
      ratioToPeer: 2,
      peakMemoryBytes: 2e8,
    },
    expect.objectContaining({ name: 'node-llama-cpp', flashAttention: true, ratioToPeer: 1 }),
  ]);
  expect(loadTable({ promptTokens: 16, rows }).rows.map(([name]) => name)).toEqual(['ctkvr', 'node-llama-cpp +flash']);
});

test('without the peer there is no ratio', () => {
  expect(toLoadRows({ ctkvr: [sample(300)] }, undefined)[0]!.ratioToPeer).toBeNull();
});
