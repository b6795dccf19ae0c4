/** How a sequence ran beside a prefill, from the gaps between its tokens. */
import { significant } from '@ctkvr/evaluation';
import type { BesideSample, ContenderSettings } from '../contenders/contender.js';
import { quantileOf } from '../sample-statistics.js';
import type { BesidePrefillRow } from './batch-result.js';
import type { RowName } from './bench-row.js';

/** @param samples of all rounds, at least one. */
export function toBesideRow(
  name: RowName,
  { flashAttention, batchSize }: Pick<ContenderSettings, 'flashAttention' | 'batchSize'>,
  samples: readonly BesideSample[],
): BesidePrefillRow {
  const gaps = samples.flatMap(({ besideMs }) => besideMs);
  const aloneMs = quantileOf(
    samples.flatMap((sample) => sample.aloneMs),
    0.5,
  );
  const p95Ms = quantileOf(gaps, 0.95);
  return {
    name,
    threads: samples[0]!.threads,
    flashAttention: flashAttention ?? null,
    batchSize: batchSize ?? null,
    aloneMs: significant(aloneMs),
    medianMs: significant(quantileOf(gaps, 0.5)),
    p95Ms: significant(p95Ms),
    maxMs: significant(Math.max(...gaps)),
    p95ToAlone: significant(p95Ms / aloneMs),
    numSamples: gaps.length,
    prefillMs: significant(
      quantileOf(
        samples.map(({ prefillMs }) => prefillMs),
        0.5,
      ),
    ),
  };
}
