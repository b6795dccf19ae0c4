/** The whole algorithm for one KV head by definition (docs: design of CTkvr, sections 2.1 and 2.2), from `naive.ts`. For tests. */
import { indexedRegion, postingListLength, type SelectorOptions } from '@ctkvr/core';
import type { HeadData } from './head-data.js';
import {
  dot,
  groupsOf,
  naiveAttention,
  naiveGroupWeights,
  naiveInt8,
  naiveLse,
  naivePooled,
  naiveScores,
  naiveUnit,
  rankedIds,
  rowsOf,
} from './naive.js';

export interface NaiveCentroid {
  /** [numKeys of the region]: what the list ranks by. */
  readonly ranking: readonly number[];
  readonly list: readonly number[];
  /** Per head, before quantisation. */
  readonly tail: readonly {
    readonly lse: number;
    readonly value: readonly number[];
    readonly key: readonly number[];
  }[];
}

export interface NaiveStep {
  /** [numCentroids] */
  readonly coarse: readonly number[];
  /** [numCentroids], also of those that the coarse step drops. */
  readonly similarity: readonly number[];
  readonly probes: readonly number[];
  readonly candidates: readonly number[];
  /** [groupSize][candidates.length] */
  readonly scores: readonly (readonly number[])[];
  /** [candidates.length] */
  readonly weights: readonly number[];
  readonly selected: readonly number[];
  /** [groupSize]: the first probe's tail moved to this query. */
  readonly tailLse: readonly number[];
  /** [groupSize][headDim]: its mean value after 8-bit storage. */
  readonly tailValue: readonly (readonly number[])[];
  /** [groupSize][headDim] */
  readonly output: readonly (readonly number[])[];
  readonly lse: readonly number[];
  readonly mass: readonly number[];
}

export interface NaiveHead {
  readonly centroids: readonly NaiveCentroid[];
  /** Runs one decode step. @param query [groupSize][headDim]. */
  step(query: readonly (readonly number[])[]): NaiveStep;
  /** Dense attention. */
  dense(query: readonly (readonly number[])[]): { output: number[][]; lse: number[] };
}

/** Builds and answers by definition; slow, and meant to be. */
export function naiveHead(data: HeadData, options: SelectorOptions): NaiveHead {
  const { headDim, groupSize } = data;
  const keys = rowsOf(data.keys, headDim);
  const values = rowsOf(data.values, headDim);
  const queries = groupsOf(data.queries, groupSize, headDim).slice(-options.numCentroids);
  const region = indexedRegion(keys.length, options);
  const regionKeys = keys.slice(region.start, region.end);
  const rows = (of: readonly (readonly number[])[], positions: readonly number[]) => positions.map((p) => of[p]!);

  const centroids = queries.map((group): NaiveCentroid => {
    const ranking = naiveGroupWeights(group, regionKeys);
    const list = rankedIds(ranking, postingListLength(options, regionKeys.length))
      .map((j) => j + region.start)
      .sort((a, b) => a - b);
    const inList = new Set(list);
    const outside = options.tail
      ? regionKeys.map((_, j) => j + region.start).filter((position) => !inList.has(position))
      : [];
    const tail = group.map((query) => {
      const scores = naiveScores(query, rows(keys, outside));
      const { mean: value, lse } = naiveAttention(scores, rows(values, outside), headDim);
      return { lse, value, key: naiveAttention(scores, rows(keys, outside), headDim).mean };
    });
    return { ranking, list, tail };
  });
  const units = queries.map((group) => group.map((query) => naiveInt8(naiveUnit(query))));
  const pooled = queries.map((group) => naiveInt8(naivePooled(group)));
  const sum = (numbers: readonly number[]) => numbers.reduce((total, x) => total + x, 0);

  return {
    centroids,
    dense(query) {
      const heads = query.map((q) => naiveAttention(naiveScores(q, keys), values, headDim));
      return { output: heads.map(({ mean }) => mean), lse: heads.map(({ lse }) => lse) };
    },
    step(query) {
      const coarse = pooled.map((vector) => dot(vector, naivePooled(query)));
      const similarity = units.map((unit) => sum(unit.map((u, head) => dot(u, naiveUnit(query[head]!)))) / groupSize);
      const near = rankedIds(coarse, 8 * options.numProbes).sort((a, b) => a - b);
      const probes = rankedIds(
        near.map((c) => similarity[c]!),
        options.numProbes,
      ).map((place) => near[place]!);
      const candidates = [...new Set(probes.flatMap((c) => centroids[c]!.list))].sort((a, b) => a - b);
      const scores = query.map((q) => naiveScores(q, rows(keys, candidates)));
      const weights = naiveGroupWeights(query, rows(keys, candidates));
      const most = rankedIds(weights, options.maxSelected === 0 ? candidates.length : options.maxSelected);
      const wanted = options.topP * sum(weights);
      const enough = most.findIndex((_, i) => sum(most.slice(0, i + 1).map((id) => weights[id]!)) >= wanted);
      const kept = options.topP === 1 || enough < 0 ? most : most.slice(0, enough + 1);
      const selected = kept.map((i) => candidates[i]!).sort((a, b) => a - b);
      const inSelected = new Set(selected);
      const read = keys.map((_, p) => p).filter((p) => p < region.start || p >= region.end || inSelected.has(p));
      const heads = query.map((q, head) => {
        const exact = naiveAttention(naiveScores(q, rows(keys, read)), rows(values, read), headDim);
        const own = centroids[probes[0]!]!.tail[head]!;
        const tailValue = naiveInt8(own.value);
        // lse at the centroid's query, moved to this one along the stored (8-bit) mean key.
        const moved = q.map((x, d) => x - queries[probes[0]!]![head]![d]!);
        const tailLse = own.lse + dot(moved, naiveInt8(own.key)) / Math.sqrt(headDim);
        const tail = { tailLse, tailValue };
        const dropped = scores[head]!.filter((_, i) => !inSelected.has(candidates[i]!));
        const unread = naiveLse(options.tail ? [tailLse, ...dropped] : dropped);
        const mass = Math.exp(exact.lse - naiveLse([exact.lse, unread]));
        if (!options.tail || tailLse === Number.NEGATIVE_INFINITY)
          return { ...tail, output: exact.mean, lse: exact.lse, mass };
        const merged = naiveAttention([exact.lse, unread], [exact.mean, tailValue], headDim);
        return { ...tail, output: merged.mean, lse: merged.lse, mass };
      });
      return {
        coarse,
        similarity,
        probes,
        candidates,
        scores,
        weights,
        selected,
        tailLse: heads.map(({ tailLse }) => tailLse),
        tailValue: heads.map(({ tailValue }) => tailValue),
        output: heads.map(({ output }) => output),
        lse: heads.map(({ lse }) => lse),
        mass: heads.map(({ mass }) => mass),
      };
    },
  };
}
