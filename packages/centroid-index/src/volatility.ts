/**
 * How much of what neighbouring queries attend to an index's lists would miss: its own last queries are looked up as a decode query would
 * be, among centroids a while older than they are. High in heads where each token wants another key, such as those that copy from far back.
 */

import { scoreKeys } from './build-centroid.js';
import type { ResolvedBuildInput } from './build-input.js';

/** Queries that are looked up at most. */
const maxSamples = 128;
/** How much older the centroids are that a query may find: so far from the prompt's end is an answer soon. */
const maxLag = 64;
/** Query heads that the native build scores together; a query is not looked up among these. */
const rowsPerPass = 28;

export interface VolatilityInput {
  readonly input: ResolvedBuildInput;
  /** Ascending union of the lists of the nearest numProbes of the first `numCentroids` centroids. */
  readonly candidatesAmong: (query: Float32Array, numCentroids: number) => Uint32Array;
}

/**
 * Returns the root of the mean, over sampled queries and their heads, of the sum of the squared attention weights (softmax over all keys)
 * of indexed keys that the probed lists miss: 0 to 1. Squares, since one missed weight of 0.3 changes an output, and a thousand of
 * 0.0003 are what the tail stands for. Yields between queries.
 */
export function* measureVolatility({ input, candidatesAmong }: VolatilityInput): Generator<void, number> {
  const { numCentroids, groupSize, headDim, queries, region, numTokens } = input;
  const half = Math.floor(numCentroids / 2);
  const perPass = Math.max(1, Math.floor(rowsPerPass / groupSize));
  const lag = Math.max(Math.min(maxLag, Math.ceil(numCentroids / 8)), perPass);
  const stride = Math.max(1, Math.ceil((numCentroids - half) / maxSamples));
  const scores = new Float64Array(numTokens);
  let squares = 0;
  let numRows = 0;
  for (let centroid = half; centroid < numCentroids; centroid += stride) {
    if (centroid < lag || region.end === region.start) continue;
    const rowLength = groupSize * headDim;
    const query = queries.subarray(centroid * rowLength, (centroid + 1) * rowLength);
    const found = candidatesAmong(query, centroid + 1 - lag);
    for (let head = 0; head < groupSize; head++) {
      scoreKeys(input, { queryRow: centroid * groupSize + head, firstPosition: 0, out: scores });
      const max = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - max));
      const total = weights.reduce((a, b) => a + b);
      for (const position of found) weights[position] = 0;
      for (let position = region.start; position < region.end; position++) squares += (weights[position]! / total) ** 2;
      numRows++;
    }
    yield;
  }
  return numRows === 0 ? 0 : Math.sqrt(squares / numRows);
}
