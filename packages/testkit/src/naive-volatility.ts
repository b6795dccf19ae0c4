/** The volatility of a head by definition (packages/centroid-index, volatility.ts), for an index whose probe visits every centroid. */
import type { HeadData } from './head-data.js';
import { dot, naiveInt8, naiveScores, naiveSoftmax, naiveUnit, rowsOf } from './naive.js';
import type { NaiveHead } from './naive-head.js';

/** Returns volatility and similarity floor. @param head of one block. @param lists of its centroids, as the index in question has them. */
export function naiveVolatility(
  data: HeadData,
  head: NaiveHead,
  input: {
    readonly lists: readonly (readonly number[])[];
    readonly centroidsPerList: number;
    readonly tail: boolean;
  },
): { readonly volatility: number; readonly similarityFloor: number } {
  const { groupSize, headDim } = data;
  const { lists, centroidsPerList, tail } = input;
  const { region, queries } = head;
  const keys = rowsOf(data.keys, headDim);
  // As much older as an eighth of all centroids, at most 64; and older than those that are scored together: whole lists of 28 query
  // rows, or so many that 12 of the rows are ones that tails are made of.
  const listsPerPass = Math.max(Math.floor(28 / groupSize / centroidsPerList), tail ? Math.ceil(12 / groupSize) : 1);
  const pass = listsPerPass * centroidsPerList;
  const lag = Math.max(Math.min(64, Math.ceil(queries.length / 8)), pass);
  const sampled = queries
    .map((_, c) => c)
    .filter((c) => c >= Math.floor(queries.length / 2) && c >= lag && region.start < region.end);
  const missed = sampled.flatMap((c) => {
    const found = new Set(lists.slice(0, c + 1 - lag).flat());
    return queries[c]!.map((query) =>
      naiveSoftmax(naiveScores(query, keys))
        .filter((_, p) => p >= region.start && p < region.end && !found.has(p))
        .reduce((sum, weight) => sum + weight ** 2, 0),
    );
  });
  if (missed.length === 0) return { volatility: 0, similarityFloor: -1 };
  const similarity = (a: number, b: number) =>
    queries[a]!.reduce((sum, query, h) => sum + dot(naiveUnit(query), naiveInt8(naiveUnit(queries[b]![h]!))), 0) /
    groupSize;
  const nearest = sampled.map((c) =>
    Math.max(...queries.slice(0, c + 1 - lag).map((_, older) => similarity(c, older))),
  );
  return {
    volatility: Math.sqrt(missed.reduce((a, b) => a + b) / missed.length),
    similarityFloor: Math.min(...nearest),
  };
}
