import type { SelectionCounters, StageTimes } from '@ctkvr/core';
import { expect, test } from 'vitest';
import { type DecodedStep, stageSplit } from '../src/suites/stage-split.js';
import { indexTables } from '../src/tables/index-tables.js';

const stages: StageTimes = {
  storeMs: 0.5,
  probeMs: 1,
  unionMs: 0.25,
  scoreMs: 2,
  selectMs: 0.25,
  attendMs: 1,
  mergeMs: 0.5,
  prefillMs: 0,
  waitMs: 0.5,
};
const counters = { candidates: 1000, keysRead: 1300, valuesRead: 700 } as SelectionCounters;

/** A step of `ms`, of which the engine took 17 and its linear layers 10. */
const step = (ms: number): DecodedStep => ({
  ms,
  timings: { totalMs: 17, linearMs: 10, retrievalMs: 3.5, attentionMs: 2.5, samplingMs: 0.75, indexMs: 0.25, stages },
  counters,
});

const split = (steps: DecodedStep[]) =>
  stageSplit({ name: 'ctkvr', threads: 2, steps, modelSizeBytes: 100e6, headDim: 64, bandwidthGBps: 20 });

test('the stages add up to the step, and those of known bytes have their share of the limit', () => {
  const { totalMs, stages: found } = split([step(18)]);
  expect(totalMs).toBe(18);
  expect(found.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(18, 9);
  const stage = (name: string) => found.find((other) => other.name === name)!;
  expect(stage('linear')).toEqual({ name: 'linear', ms: 10, bytes: 100e6, shareOfLimit: 0.5 });
  expect(stage('score').bytes).toBe(1000 * 128);
  expect(stage('attend').bytes).toBe((300 + 700) * 128);
  expect(stage('probe')).toMatchObject({ ms: 1, bytes: null, shareOfLimit: null });
  expect(stage('between').ms).toBe(1);
});

test('a step that was interrupted does not count', () => {
  const steps = [...Array.from({ length: 19 }, () => step(18)), step(900)];
  expect(split(steps)).toMatchObject({ totalMs: 18, numSteps: 19 });
});

test('no step is an error', () => {
  expect(() => split([])).toThrow(RangeError);
});

test('the tables name every stage, and the sum', () => {
  const tables = indexTables({
    context: 7000,
    build: {
      prefillMs: 1000,
      buildMs: { median: 45, p10: 40, p90: 50, numSamples: 3 },
      shareOfPrefill: 0.045,
      indexBytes: 20e6,
      kvBytes: 160e6,
      indexedTokens: 6728,
    },
    growth: { tokens: 512, msPerToken: 0.1, shareOfSteps: 0.01, maxMs: 2, bytesBefore: 20e6, bytesAfter: 21e6 },
    turn: { tokens: 128, prefillMs: 100, extendMs: 12 },
    splits: [split([step(18)])],
  });
  const [facts, steps] = tables;
  expect(facts!.rows).toContainEqual(['build, share of the prefill', '4.5 %']);
  expect(facts!.rows).toContainEqual(['index, share of keys and values', '12.5 %']);
  expect(steps!.rows[0]).toEqual(['linear layers', '10', '50 %']);
  expect(steps!.rows.slice(-2)).toEqual([
    ['retrieval and attention (store to waiting)', '6', '-'],
    ['total', '18', '-'],
  ]);
});
