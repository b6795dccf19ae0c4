/**
 * The posting list that some neighbouring centroids share (docs/design/retrieval.md). Needs memory for one row of scores, reused from list
 * to list, never centroids x keys.
 */
import type { IndexedRegion } from '@ctkvr/core';
import { highestScores } from './highest-scores.js';
import type { PagedRows } from './paged-rows.js';

/** What lists are made from. */
export interface ListInput {
  /** Rows are positions. */
  readonly keys: PagedRows;
  readonly region: IndexedRegion;
  /** f32 [numCentroids, groupSize, headDim]. */
  readonly queries: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  /** Positions a list keeps; at most the region's. */
  readonly listLength: number;
  readonly centroidsPerList: number;
  /** 1 / sqrt(headDim). */
  readonly scale: number;
}

/** Returns a function that builds list after list, u32 ascending positions, over the same scratch memory. */
export function listBuilder(input: ListInput): (list: number) => Uint32Array {
  const { headDim, groupSize, region, centroidsPerList } = input;
  const numKeys = region.end - region.start;
  const numRows = input.queries.length / headDim;
  const scores = new Float64Array(numKeys);
  const ranking = new Float64Array(numKeys);

  return (list) => {
    const first = list * centroidsPerList * groupSize;
    const end = Math.min(first + centroidsPerList * groupSize, numRows);
    // ranking[j] = sum over centroids and heads of softmax_j(scale q.k_j), over the whole region.
    ranking.fill(0);
    for (let queryRow = first; queryRow < end; queryRow++) {
      scoreKeys(input, { queryRow, firstPosition: region.start, out: scores });
      const lse = logSumExp(scores);
      for (let j = 0; j < numKeys; j++) ranking[j]! += Math.exp(scores[j]! - lse);
    }
    return highestScores(ranking, input.listLength).map((j) => j + region.start);
  };
}

/** The middle one of the centroids that share a list, or the last where there are fewer. */
export function middleCentroid(
  list: number,
  { numCentroids, centroidsPerList }: { readonly numCentroids: number; readonly centroidsPerList: number },
): number {
  return Math.min(list * centroidsPerList + Math.floor(centroidsPerList / 2), numCentroids - 1);
}

/** Writes scale q.k of the keys from `firstPosition` on; `queryRow` counts (centroid, head) pairs. */
export function scoreKeys(
  input: Pick<ListInput, 'keys' | 'queries' | 'headDim' | 'scale'>,
  { queryRow, firstPosition, out }: { queryRow: number; firstPosition: number; out: Float64Array },
): void {
  const { keys, queries, headDim, scale } = input;
  for (let j = 0; j < out.length; j++) out[j] = keys.dot(firstPosition + j, queries, queryRow * headDim) * scale;
}

/** log sum exp of the scores; -Infinity for none. */
function logSumExp(scores: Float64Array): number {
  const max = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return max + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - max), 0));
}
