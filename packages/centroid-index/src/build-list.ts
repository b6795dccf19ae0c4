/**
 * List and tail of some neighbouring centroids (docs: design of CTkvr, section 2.1). Streams over the keys twice; memory is one row of
 * scores per query head, reused from list to list, never centroids x keys.
 */
import type { IndexedRegion } from '@ctkvr/core';
import { highestScores } from './highest-scores.js';
import type { PagedRows } from './paged-rows.js';

/** What lists are made from. */
export interface ListInput {
  /** Rows are positions. */
  readonly keys: PagedRows;
  readonly values: PagedRows;
  readonly region: IndexedRegion;
  /** f32 [numCentroids, groupSize, headDim]. */
  readonly queries: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  /** Positions a list keeps; at most the region's. */
  readonly listLength: number;
  readonly centroidsPerList: number;
  /** Whether tails are wanted. */
  readonly tail: boolean;
  /** 1 / sqrt(headDim). */
  readonly scale: number;
}

/** One list, and what it leaves out as the middle one of its centroids sees it. Tail vectors are not yet quantised. */
export interface BuiltList {
  /** u32, ascending positions. */
  readonly list: Uint32Array;
  /** The centroid whose query the tail is of. */
  readonly middle: number;
  /** f64 [groupSize]; -Infinity when the list covers the region, or no tails are asked for. */
  readonly lseTail: Float64Array;
  /** f32 [groupSize, headDim]; zeros where lseTail is -Infinity. */
  readonly valueTail: Float32Array;
  /** f32 [groupSize, headDim]; zeros where lseTail is -Infinity. */
  readonly keyTail: Float32Array;
}

/** Returns a function that builds list after list over the same scratch memory. */
export function listBuilder(input: ListInput): (list: number) => BuiltList {
  const { headDim, groupSize, region, keys, values, centroidsPerList } = input;
  const numKeys = region.end - region.start;
  const numCentroids = input.queries.length / (groupSize * headDim);
  const scores = Array.from({ length: groupSize }, () => new Float64Array(numKeys));
  const ownScores = new Float64Array(numKeys);
  const ranking = new Float64Array(numKeys);
  const outside = new Uint8Array(numKeys);

  return (list) => {
    const first = list * centroidsPerList;
    const end = Math.min(first + centroidsPerList, numCentroids);
    const middle = first + Math.floor((end - first) / 2);
    // score[j] = sum over centroids and heads of softmax_j(scale q.k_j), over the whole region.
    ranking.fill(0);
    for (let centroid = first; centroid < end; centroid++) {
      for (let head = 0; head < groupSize; head++) {
        const row = centroid === middle ? scores[head]! : ownScores;
        scoreKeys(input, { queryRow: centroid * groupSize + head, firstPosition: region.start, out: row });
        const lse = logSumExp(row);
        for (let j = 0; j < numKeys; j++) ranking[j]! += Math.exp(row[j]! - lse);
      }
    }
    const picked = highestScores(ranking, input.listLength);
    outside.fill(1);
    for (const j of picked) outside[j] = 0;

    const lseTail = new Float64Array(groupSize).fill(Number.NEGATIVE_INFINITY);
    const valueTail = new Float32Array(groupSize * headDim);
    const keyTail = new Float32Array(groupSize * headDim);
    if (input.tail && picked.length < numKeys) {
      for (let head = 0; head < groupSize; head++) {
        const row = scores[head]!;
        const lse = logSumExp(row, outside);
        lseTail[head] = lse;
        const at = { row, outside, lse, firstPosition: region.start };
        valueTail.set(weightedMean({ ...at, vectors: values }), head * headDim);
        keyTail.set(weightedMean({ ...at, vectors: keys }), head * headDim);
      }
    }
    return { list: picked.map((j) => j + region.start), middle, lseTail, valueTail, keyTail };
  };
}

/** Writes scale q.k of the keys from `firstPosition` on; `queryRow` counts (centroid, head) pairs. */
export function scoreKeys(
  input: Pick<ListInput, 'keys' | 'queries' | 'headDim' | 'scale'>,
  { queryRow, firstPosition, out }: { queryRow: number; firstPosition: number; out: Float64Array },
): void {
  const { keys, queries, headDim, scale } = input;
  for (let j = 0; j < out.length; j++) out[j] = keys.dot(firstPosition + j, queries, queryRow * headDim) * scale;
}

/** log sum exp of the scores (of those with mask 1, when there is a mask); -Infinity for none. */
function logSumExp(scores: Float64Array, mask?: Uint8Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < scores.length; j++) if (mask?.[j] !== 0) max = Math.max(max, scores[j]!);
  if (max === Number.NEGATIVE_INFINITY) return max;
  let sum = 0;
  for (let j = 0; j < scores.length; j++) if (mask?.[j] !== 0) sum += Math.exp(scores[j]! - max);
  return max + Math.log(sum);
}

function weightedMean(of: {
  readonly row: Float64Array;
  readonly outside: Uint8Array;
  readonly lse: number;
  readonly vectors: PagedRows;
  readonly firstPosition: number;
}): Float64Array {
  const mean = new Float64Array(of.vectors.rowLength);
  for (let j = 0; j < of.row.length; j++) {
    if (of.outside[j] !== 0) of.vectors.addScaled(of.firstPosition + j, Math.exp(of.row[j]! - of.lse), mean);
  }
  return mean;
}
