/** The volatility of a head by definition (packages/centroid-index, volatility.ts), for an index whose probe visits every centroid. */
import type { SelectorOptions } from '@ctkvr/core';
import type { HeadData } from './head-data.js';
import { dot, naiveInt8, naiveLse, naivePooled, naiveScores, rowsOf } from './naive.js';
import { type NaiveTail, naiveWeigh, naiveWiden } from './naive-clusters.js';
import type { NaiveHead } from './naive-head.js';

/**
 * Returns volatility, similarity floor and the tail's corrections.
 * @param head of one segment. @param lists of its centroids, as the index in question has them. @param tail likewise; null for none.
 */
export function naiveVolatility(
  data: HeadData,
  head: NaiveHead,
  input: {
    readonly lists: readonly (readonly number[])[];
    readonly tail: NaiveTail | null;
    readonly options: SelectorOptions;
  },
): { readonly volatility: number; readonly similarityFloor: number; readonly corrections: readonly number[] } {
  const { groupSize, headDim } = data;
  const { lists, options } = input;
  const { region, queries } = head;
  const keys = rowsOf(data.keys, headDim);
  const tail = input.tail && { ...input.tail, corrections: Array<number>(groupSize).fill(0) };
  // As much older as an eighth of all centroids, at most 64; and older than those that are scored together: whole lists of 28 query rows.
  const pass = Math.max(1, Math.floor(28 / groupSize / options.centroidsPerList)) * options.centroidsPerList;
  const lag = Math.max(Math.min(64, Math.ceil(queries.length / 8)), pass);
  // The middle ones of the later half of the lists.
  const numLists = Math.ceil(queries.length / options.centroidsPerList);
  const middle = (list: number) =>
    Math.min(list * options.centroidsPerList + Math.floor(options.centroidsPerList / 2), queries.length - 1);
  const sampled = Array.from({ length: numLists }, (_, list) => list)
    .filter((list) => list >= Math.floor(numLists / 2))
    .map(middle)
    .filter((c) => c >= lag && region.start < region.end);
  if (sampled.length === 0) return { volatility: 0, similarityFloor: -1, corrections: Array(groupSize).fill(0) };

  const rows = sampled.map((c) => {
    const taken = [...new Set(lists.slice(0, c + 1 - lag).flat())];
    const { clusterProbes } = options;
    const found = new Set(tail === null ? taken : naiveWiden(tail, queries[c]!, { taken, clusterProbes }));
    const rest = tail && naiveWeigh(tail, queries[c]!, [...found]);
    return queries[c]!.map((query, h) => {
      const scores = naiveScores(query, keys);
      const missed = scores.filter((_, p) => p >= region.start && p < region.end && !found.has(p));
      const squares = missed.reduce((sum, score) => sum + Math.exp(score - naiveLse(scores)) ** 2, 0);
      const shortfall = rest === null || missed.length === 0 ? 0 : naiveLse(missed) - rest.lse[h]!;
      return { squares, shortfall };
    });
  });
  const similarity = (a: number, b: number) => dot(naivePooled(queries[a]!), naiveInt8(naivePooled(queries[b]!)));
  const nearest = sampled.map((c) =>
    Math.max(...queries.slice(0, c + 1 - lag).map((_, older) => similarity(c, older))),
  );
  const squares = rows.flat().map((row) => row.squares);
  const medians = queries[0]!.map((_, h) => {
    const shortfalls = rows.map((heads) => heads[h]!.shortfall).sort((a, b) => a - b);
    return shortfalls[Math.floor(shortfalls.length / 2)]!;
  });
  return {
    volatility: Math.sqrt(squares.reduce((a, b) => a + b) / squares.length),
    similarityFloor: Math.min(...nearest),
    corrections: medians.map((median) => Math.min(Math.max(median, 0), Math.log(2))),
  };
}
