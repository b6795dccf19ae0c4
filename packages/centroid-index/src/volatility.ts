/**
 * How much of what neighbouring queries attend to an index's lists would miss: its own last queries are looked up as a decode query would
 * be, among centroids a while older than they are. High in heads where each token wants another key, such as those that copy from far back.
 */

import type { BlockInput } from './build-block.js';
import { scoreKeys } from './build-list.js';
import type { CentroidBlock } from './centroid-block.js';
import { nearestCentroids } from './nearest-centroids.js';

/** Queries that are looked up at most. */
const maxSamples = 128;
/** How much older the centroids are that a query may find: so far from the prompt's end is an answer soon. */
const maxLag = 64;
/** Query heads that the native build scores together, in whole lists; a query is not looked up among these. */
const rowsPerPass = 28;
/** Of these, rows that tails are made of, at least. */
const tailRowsPerPass = 12;

export interface Volatility {
  /**
   * Root of the mean, over sampled queries and their heads, of the sum of the squared attention weights (softmax over all keys) of indexed
   * keys that the probed lists miss: 0 to 1. Squares, since one missed weight of 0.3 changes an output, and a thousand of 0.0003 are what
   * the tail stands for.
   */
  readonly volatility: number;
  /** Smallest similarity of a sampled query to its nearest centroid: a query below it is unlike all of them. -1 when none was sampled. */
  readonly similarityFloor: number;
}

/** Looks up a sample of the block's queries in it. Numbers are rounded to f32, as they are stored. Yields between queries. */
export function* measureVolatility(of: {
  readonly input: BlockInput;
  readonly block: CentroidBlock;
  readonly numProbes: number;
}): Generator<void, Volatility> {
  const { block, input, numProbes } = of;
  const { numCentroids, groupSize, headDim, centroidsPerList, start, end } = block;
  const half = Math.floor(numCentroids / 2);
  const listsPerPass = Math.max(
    Math.floor(rowsPerPass / groupSize / centroidsPerList),
    input.tail ? Math.ceil(tailRowsPerPass / groupSize) : 1,
  );
  const perPass = listsPerPass * centroidsPerList;
  const lag = Math.max(Math.min(maxLag, Math.ceil(numCentroids / 8)), perPass);
  const stride = Math.max(1, Math.ceil((numCentroids - half) / maxSamples));
  const scores = new Float64Array(input.keys.length);
  let squares = 0;
  let numRows = 0;
  let floor = Number.POSITIVE_INFINITY;
  for (let centroid = half; centroid < numCentroids; centroid += stride) {
    if (centroid < lag || end === start) continue;
    const rowLength = groupSize * headDim;
    const query = input.queries.subarray(centroid * rowLength, (centroid + 1) * rowLength);
    const nearest = nearestCentroids({ blocks: [block], query, numProbes, numCentroids: centroid + 1 - lag });
    floor = Math.min(floor, nearest[0]!.similarity);
    for (let head = 0; head < groupSize; head++) {
      scoreKeys(input, { queryRow: centroid * groupSize + head, firstPosition: 0, out: scores });
      const max = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - max));
      const total = weights.reduce((a, b) => a + b);
      for (const near of nearest) {
        for (const position of block.lists[block.listOf(near.centroid)]!) weights[position] = 0;
      }
      for (let position = start; position < end; position++) squares += (weights[position]! / total) ** 2;
      numRows++;
    }
    yield;
  }
  const volatility = Math.fround(numRows === 0 ? 0 : Math.sqrt(squares / numRows));
  return { volatility, similarityFloor: numRows === 0 ? -1 : Math.fround(floor) };
}
