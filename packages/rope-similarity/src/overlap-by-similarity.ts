/**
 * Whether similar queries attend to the same keys, for the group and for each head: the paper's second observation (arXiv 2512.15550),
 * one point per pair of queries. `overlapCurve` makes a line of the points.
 */
import {
  type BackendChoice,
  checkFinite,
  checkInteger,
  checkLength,
  checkOptions,
  chooseBackend,
  type NativeRopeBinding,
  type OptionChecks,
  type OverlapBySimilarity,
  takes,
} from '@ctkvr/core';
import { headCosine } from './group-cosine.js';
import { HighestKeys } from './highest-keys.js';
import { TimeSlices } from './time-slices.js';

export interface OverlapBySimilarityInput extends BackendChoice<NativeRopeBinding> {
  /** f32 [numQueries, groupSize, headDim], rotated, finite. */
  readonly queries: Float32Array;
  /** f32 [numKeys, headDim], rotated, finite: the keys of the one KV head that the group shares. */
  readonly keys: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  /** Keys in a set, 1 to numKeys. */
  readonly topK: number;
  /** Rows of `queries`, [numPairs, 2]. */
  readonly pairs: Uint32Array;
  /** Stops a reference run between two pairs with CTKVR_ABORTED. */
  readonly signal?: AbortSignal;
}

const inputChecks: OptionChecks<OverlapBySimilarityInput> = {
  queries: takes.float32,
  keys: takes.float32,
  groupSize: takes.anything,
  headDim: takes.anything,
  topK: takes.anything,
  pairs: takes.uint32,
  signal: takes.optional(takes.abortSignal),
  backend: takes.anything,
  native: takes.anything,
};

/**
 * Returns similarity and top-k overlap of pairs of queries against the same keys. The top k of a head are its keys of highest q.k, those
 * of the group the keys of highest sum of that over its heads; ties go to the smaller position.
 * Cost: pairs * 2 * numKeys * groupSize * headDim multiplications, half of it when each pair has a query of the pair before; memory
 * topK * (groupSize + 1) entries (native: numKeys * (groupSize + 1) f64) and the result. Native runs on a worker thread, over the same
 * buffers: leave them unchanged until then.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE, CTKVR_ABORTED.
 */
export async function overlapBySimilarity(input: OverlapBySimilarityInput): Promise<OverlapBySimilarity> {
  const op = 'overlapBySimilarity';
  checkOptions(op, input, inputChecks);
  const { queries, keys, groupSize, headDim, topK, pairs, signal } = input;
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
  const row = groupSize * headDim;
  const numQueries = Math.floor(queries.length / row);
  const numKeys = Math.floor(keys.length / headDim);
  const queryShape = `[numQueries, groupSize, headDim] = [${numQueries}, ${groupSize}, ${headDim}]`;
  checkLength(queries.length, numQueries * row, { op, name: 'queries', shape: queryShape });
  const keyShape = `[numKeys, headDim] = [${numKeys}, ${headDim}]`;
  checkLength(keys.length, numKeys * headDim, { op, name: 'keys', shape: keyShape });
  checkLength(pairs.length % 2, 0, { op, name: 'pairs (length modulo 2)', shape: '[numPairs, 2]' });
  for (const query of pairs) checkInteger(query, { op, name: 'pairs', min: 0, max: numQueries - 1 });
  checkInteger(topK, { op, name: 'topK', min: 1, max: numKeys });
  const native = chooseBackend(input);
  const slices = new TimeSlices(op, signal);
  if (native !== undefined) {
    return await native.overlapBySimilarity({ queries, keys, groupSize, headDim, topK, pairs });
  }

  checkFinite(queries, { op, name: 'queries' });
  checkFinite(keys, { op, name: 'keys' });
  const numPairs = pairs.length / 2;
  const similarity = new Float64Array(numPairs);
  const overlap = new Float64Array(numPairs);
  const headSimilarity = new Float64Array(numPairs * groupSize);
  const headOverlap = new Float64Array(numPairs * groupSize);
  const heaps = Array.from({ length: groupSize + 1 }, () => new HighestKeys(topK));
  let known: KeySets[] = [];
  for (let pair = 0; pair < numPairs; pair++) {
    const of = (row: number) => known.find((sets) => sets.row === row) ?? keySets(input, row, heaps);
    const a = of(pairs[2 * pair]!);
    known = [a, ...known];
    const b = of(pairs[2 * pair + 1]!);
    known = [a, b];
    let sum = 0;
    for (let head = 0; head < groupSize; head++) {
      const [aOffset, bOffset] = [a.row * row + head * headDim, b.row * row + head * headDim];
      const cosine = headCosine(queries, aOffset, queries, bOffset, headDim);
      headSimilarity[pair * groupSize + head] = cosine;
      headOverlap[pair * groupSize + head] = numShared(a.sets[head]!, b.sets[head]!) / topK;
      sum += cosine;
    }
    similarity[pair] = sum / groupSize;
    overlap[pair] = numShared(a.sets[groupSize]!, b.sets[groupSize]!) / topK;
    if (slices.isOver) await slices.pause();
  }
  return { similarity, overlap, headSimilarity, headOverlap };
}

/** The top keys of one query: each head's, then the group's; positions ascending. */
interface KeySets {
  readonly row: number;
  readonly sets: readonly Uint32Array[];
}

function keySets(input: OverlapBySimilarityInput, row: number, heaps: readonly HighestKeys[]): KeySets {
  const { queries, keys, groupSize, headDim } = input;
  for (const heap of heaps) heap.clear();
  for (let position = 0; position * headDim < keys.length; position++) {
    let groupScore = 0;
    for (let head = 0; head < groupSize; head++) {
      const q = (row * groupSize + head) * headDim;
      let score = 0;
      for (let d = 0; d < headDim; d++) score += queries[q + d]! * keys[position * headDim + d]!;
      heaps[head]!.offer(score, position);
      groupScore += score;
    }
    heaps[groupSize]!.offer(groupScore, position);
  }
  return { row, sets: heaps.map((heap) => heap.positions()) };
}

/** How many numbers two ascending lists share. */
function numShared(a: Uint32Array, b: Uint32Array): number {
  let shared = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [x, y] = [a[i]!, b[j]!];
    if (x === y) shared++;
    if (x <= y) i++;
    if (y <= x) j++;
  }
  return shared;
}
