/**
 * Measures how much attention an index would miss. The index's own last queries are looked up like decode queries, among centroids that are
 * somewhat older. The result is high in heads where each token attends to another key, such as those that copy from far back. The same
 * queries show by how much the tail's estimate is too low.
 */

import { middleCentroid, scoreKeys } from './build-list.js';
import type { SegmentInput } from './build-segment.js';
import type { CentroidSegment } from './centroid-segment.js';
import { markedPositions } from './marked-positions.js';
import { nearestCentroids } from './nearest-centroids.js';
import type { Tail } from './tail.js';

/** Most queries that are looked up. */
const maxSamples = 128;
/** How much older than a query the centroids are that it may find: an answer soon is that far from the prompt's end. */
const maxLag = 64;
/** Query heads that the native build scores together, in whole lists; a query is not looked up among these. */
const rowsPerPass = 28;
/** The largest correction: an estimate is at most doubled. */
export const maxCorrection = Math.fround(Math.LN2);

export interface Volatility {
  /**
   * Root of the mean, over sampled queries and their heads, of the sum of the squared attention weights (softmax over all keys) of indexed
   * keys that the probed lists and the tail's heaviest clusters miss: 0 to 1. Squares, since one missed weight of 0.3 changes an output,
   * and a thousand of 0.0003 are what the tail stands for.
   */
  readonly volatility: number;
  /** Smallest similarity of a sampled query to its nearest centroid: a query below it is unlike all of them. -1 when none was sampled. */
  readonly similarityFloor: number;
  /**
   * f32 [groupSize]: median over the sampled queries of log(weight of the indexed keys that are missed / what the tail says of it), which a
   * few queries that miss single heavy keys do not move; from 0 to log 2. 0 without samples or tail.
   */
  readonly corrections: Float32Array;
}

/** Looks up a sample of the segment's queries in it. Numbers are rounded to f32, as they are stored. Yields between queries. */
export function* measureVolatility(of: {
  readonly input: SegmentInput;
  readonly segment: CentroidSegment;
  /** Without corrections; null when the index has none. */
  readonly tail: Tail | null;
  readonly numProbes: number;
  readonly clusterProbes: number;
}): Generator<void, Volatility> {
  const { segment, input, tail, numProbes, clusterProbes } = of;
  const { numCentroids, groupSize, headDim, centroidsPerList, start, end } = segment;
  const numLists = Math.ceil(numCentroids / centroidsPerList);
  const half = Math.floor(numLists / 2);
  const perPass = Math.max(1, Math.floor(rowsPerPass / groupSize / centroidsPerList)) * centroidsPerList;
  const lag = Math.max(Math.min(maxLag, Math.ceil(numCentroids / 8)), perPass);
  const stride = Math.max(1, Math.ceil((numLists - half) / maxSamples));
  const scores = new Float64Array(input.keys.length);
  const rest = { lse: new Float32Array(groupSize), value: new Float32Array(groupSize * headDim) };
  const shortfalls: number[][] = Array.from({ length: groupSize }, () => []);
  let squares = 0;
  let numRows = 0;
  let floor = Number.POSITIVE_INFINITY;
  for (let list = half; list < numLists; list += stride) {
    const centroid = middleCentroid(list, segment);
    if (centroid < lag || end === start) continue;
    const rowLength = groupSize * headDim;
    const query = input.queries.subarray(centroid * rowLength, (centroid + 1) * rowLength);
    const nearest = nearestCentroids({ segments: [segment], query, numProbes, numCentroids: centroid + 1 - lag });
    floor = Math.min(floor, nearest[0]!.similarity);
    const found = new Uint8Array(end - start);
    for (const near of nearest) {
      for (const position of segment.lists[segment.listOf(near.centroid)]!) found[position - start] = 1;
    }
    rest.lse.fill(Number.NEGATIVE_INFINITY);
    if (tail !== null) {
      const weighed = tail.weigh({ query, taken: markedPositions(found, start) });
      weighed.takeHeaviest(clusterProbes, (position) => (found[position - start] = 1));
      weighed.rest(rest);
    }
    for (let head = 0; head < groupSize; head++) {
      scoreKeys(input, { queryRow: centroid * groupSize + head, firstPosition: 0, out: scores });
      const max = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - max));
      const total = weights.reduce((a, b) => a + b);
      const missed = weights.subarray(start, end).map((weight, j) => (found[j] === 0 ? weight : 0));
      squares += missed.reduce((sum, weight) => sum + (weight / total) ** 2, 0);
      const shortfall = Math.fround(max + Math.log(missed.reduce((a, b) => a + b)) - rest.lse[head]!);
      shortfalls[head]!.push(Number.isFinite(shortfall) ? shortfall : 0);
      numRows++;
    }
    yield;
  }
  const volatility = Math.fround(numRows === 0 ? 0 : Math.sqrt(squares / numRows));
  const corrections = Float32Array.from(shortfalls, (all) => Math.min(Math.max(median(all), 0), maxCorrection));
  return { volatility, similarityFloor: numRows === 0 ? -1 : Math.fround(floor), corrections };
}

/** The upper one of two in the middle; 0 for none. */
function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}
