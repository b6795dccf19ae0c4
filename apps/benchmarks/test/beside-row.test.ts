import { expect, test } from 'vitest';
import { toBesideRow } from '../src/suites/beside-row.js';

test('a row has the gaps of all rounds beside the median alone', () => {
  const besideMs = Array.from({ length: 21 }, (_, index) => index * 10);
  const row = toBesideRow('node-llama-cpp', { flashAttention: true, batchSize: 128 }, [
    { aloneMs: [10, 20, 10], besideMs, prefillMs: 900, threads: 2 },
    { aloneMs: [20, 20], besideMs: [], prefillMs: 1100, threads: 2 },
  ]);
  expect(row).toEqual({
    name: 'node-llama-cpp',
    threads: 2,
    flashAttention: true,
    batchSize: 128,
    aloneMs: 20,
    medianMs: 100,
    p95Ms: 190,
    maxMs: 200,
    p95ToAlone: 9.5,
    numSamples: 21,
    prefillMs: 1000,
  });
});

test('ours has neither of the settings that are the peers', () => {
  const row = toBesideRow('full', {}, [{ aloneMs: [1], besideMs: [2], prefillMs: 3, threads: 1 }]);
  expect([row.flashAttention, row.batchSize, row.p95ToAlone]).toEqual([null, null, 2]);
});
