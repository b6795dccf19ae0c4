/** The volatility of a head by definition (packages/centroid-index, volatility.ts), for an index whose probe visits every centroid. */
import type { IndexedRegion } from '@ctkvr/core';
import type { HeadData } from './head-data.js';
import { groupsOf, naiveScores, naiveSoftmax, rowsOf } from './naive.js';

/** `data.queries` holds the centroids and no others; `lists` are theirs. */
export function naiveVolatility(
  data: HeadData,
  { region, lists }: { readonly region: IndexedRegion; readonly lists: readonly (readonly number[])[] },
): number {
  const { headDim, groupSize } = data;
  const keys = rowsOf(data.keys, headDim);
  const centroids = groupsOf(data.queries, groupSize, headDim);
  // As much older as an eighth of all centroids, at most 64; and older than 28 query rows, which are scored together.
  const lag = Math.max(Math.min(64, Math.ceil(lists.length / 8)), Math.max(1, Math.floor(28 / groupSize)));
  const missed = centroids.flatMap((group, c) => {
    if (c < Math.floor(lists.length / 2) || c < lag || region.start === region.end) return [];
    const found = new Set(lists.slice(0, c + 1 - lag).flat());
    return group.map((query) =>
      naiveSoftmax(naiveScores(query, keys))
        .filter((_, p) => p >= region.start && p < region.end && !found.has(p))
        .reduce((sum, weight) => sum + weight ** 2, 0),
    );
  });
  return missed.length === 0 ? 0 : Math.sqrt(missed.reduce((a, b) => a + b) / missed.length);
}
