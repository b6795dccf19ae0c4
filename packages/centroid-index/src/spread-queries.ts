/**
 * Chooses which of many queries become centroids so that old ones are represented too (`spread` in docs/design/retrieval.md). Plain f64 in
 * one fixed order, as ctkvr-core's spread_queries.rs has it: both choose the same ones, bit for bit.
 */
import { checkInteger, checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import { pooledVector } from './pooled-vector.js';

export interface SpreadQueriesInput {
  /** f32 [any, groupSize, headDim], oldest first. */
  readonly queries: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  /** How many are wanted. */
  readonly count: number;
}

const inputChecks: OptionChecks<SpreadQueriesInput> = {
  queries: takes.float32,
  groupSize: takes.anything,
  headDim: takes.anything,
  count: takes.anything,
};

/**
 * Returns indexes of `count` of the queries, ascending: the newer half are the last ones; the others are picked one by one from the earlier
 * ones, each the one whose largest cosine of pooled vectors to those chosen before is smallest (ties: smaller index). All of them when there
 * are no more than `count`. Cost: count * queries * headDim multiplications.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION.
 */
export function spreadQueries(input: SpreadQueriesInput): Uint32Array {
  checkOptions('spreadQueries', input, inputChecks);
  for (const name of ['groupSize', 'headDim', 'count'] as const) {
    checkInteger(input[name], { op: 'spreadQueries', name, min: 1, max: 0x7fff_ffff });
  }
  const picking = pickSpreadQueries(input);
  for (;;) {
    const step = picking.next();
    if (step.done === true) return step.value;
  }
}

/** The same as a generator that yields between picks. */
export function* pickSpreadQueries({
  queries,
  groupSize,
  headDim,
  count,
}: SpreadQueriesInput): Generator<void, Uint32Array> {
  const rowLength = groupSize * headDim;
  const n = Math.floor(queries.length / rowLength);
  if (n <= count) return Uint32Array.from({ length: n }, (_, i) => i);
  const pooled = new Float64Array(n * headDim);
  for (let i = 0; i < n; i++)
    pooledVector(queries.subarray(i * rowLength, (i + 1) * rowLength), pooled.subarray(i * headDim, (i + 1) * headDim));
  const numEarlier = n - Math.ceil(count / 2);
  // Each earlier query's largest cosine to those chosen.
  const nearest = new Float64Array(numEarlier).fill(Number.NEGATIVE_INFINITY);
  const moveNear = (chosen: number) => {
    for (let i = 0; i < numEarlier; i++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += pooled[i * headDim + d]! * pooled[chosen * headDim + d]!;
      if (dot > nearest[i]!) nearest[i] = dot;
    }
  };
  const chosen: number[] = [];
  for (let i = numEarlier; i < n; i++) {
    chosen.push(i);
    moveNear(i);
    yield;
  }
  while (chosen.length < count) {
    let best = 0;
    for (let i = 1; i < numEarlier; i++) if (nearest[i]! < nearest[best]!) best = i;
    chosen.push(best);
    moveNear(best);
    // Larger than every cosine: never picked again.
    nearest[best] = Number.POSITIVE_INFINITY;
    yield;
  }
  return Uint32Array.from(chosen).sort();
}
