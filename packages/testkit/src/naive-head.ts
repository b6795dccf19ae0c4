/** The whole algorithm for one KV head by definition (docs: design of CTkvr, sections 2.1 and 2.2), from `naive.ts`. For tests. */
import { type IndexedRegion, indexedRegion, postingListLength, type SelectorOptions } from '@ctkvr/core';
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
import { naiveSpread } from './naive-spread.js';

/** Centroids made at one time over positions [start, end). */
export interface NaiveBlock {
  readonly start: number;
  readonly end: number;
  /** Tokens stored when it was made. */
  readonly madeAt: number;
  /** [numCentroids][groupSize][headDim] */
  readonly queries: readonly (readonly (readonly number[])[])[];
}

export interface NaiveCentroid {
  /** [numKeys of the block's region]: what the list ranks by. */
  readonly ranking: readonly number[];
  /** Shared with the neighbours of `listId`. */
  readonly list: readonly number[];
  readonly listId: number;
  /** Where its block's region ends. */
  readonly blockEnd: number;
  /** [groupSize][headDim]: the query that the tail is of. */
  readonly tailQuery: readonly (readonly number[])[];
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
  /** Indexed positions. */
  readonly region: IndexedRegion;
  /** [numCentroids][groupSize][headDim] */
  readonly queries: readonly (readonly (readonly number[])[])[];
  readonly centroids: readonly NaiveCentroid[];
  /** Runs one decode step. @param query [groupSize][headDim]. */
  step(query: readonly (readonly number[])[]): NaiveStep;
  /** Dense attention. */
  dense(query: readonly (readonly number[])[]): { output: number[][]; lse: number[] };
}

/**
 * Builds and answers by definition; slow, and meant to be.
 * @param blocks what probes look at, oldest first (naive-growth.ts); without it, the one block that a build over all of `data` makes.
 */
export function naiveHead(data: HeadData, options: SelectorOptions, blocks = [firstBlock(data, options)]): NaiveHead {
  const { headDim, groupSize } = data;
  const keys = rowsOf(data.keys, headDim);
  const values = rowsOf(data.values, headDim);
  const queries = blocks.flatMap((block) => block.queries);
  const region = { start: blocks[0]!.start, end: blocks.at(-1)!.end };
  const rows = (of: readonly (readonly number[])[], positions: readonly number[]) => positions.map((p) => of[p]!);

  const lists = blocks.flatMap((block) => {
    const blockKeys = keys.slice(block.start, block.end);
    return chunked(block.queries, options.centroidsPerList).map((members) => {
      const weights = members.map((group) => naiveGroupWeights(group, blockKeys));
      const ranking = blockKeys.map((_, j) => weights.reduce((total, of) => total + of[j]!, 0));
      const list = rankedIds(ranking, postingListLength(options, blockKeys.length))
        .map((j) => j + block.start)
        .sort((a, b) => a - b);
      const inList = new Set(list);
      const outside = options.tail
        ? blockKeys.map((_, j) => j + block.start).filter((position) => !inList.has(position))
        : [];
      const tailQuery = members[Math.floor(members.length / 2)]!;
      const tail = tailQuery.map((query) => {
        const scores = naiveScores(query, rows(keys, outside));
        const { mean: value, lse } = naiveAttention(scores, rows(values, outside), headDim);
        return { lse, value, key: naiveAttention(scores, rows(keys, outside), headDim).mean };
      });
      return { members, shared: { ranking, list, tailQuery, tail, blockEnd: block.end } };
    });
  });
  const centroids = lists.flatMap(({ members, shared }, listId): NaiveCentroid[] =>
    members.map(() => ({ ...shared, listId })),
  );
  const units = queries.map((group) => group.map((query) => naiveInt8(naiveUnit(query))));
  const pooled = queries.map((group) => naiveInt8(naivePooled(group)));
  const sum = (numbers: readonly number[]) => numbers.reduce((total, x) => total + x, 0);

  return {
    region,
    queries,
    centroids,
    dense(query) {
      const heads = query.map((q) => naiveAttention(naiveScores(q, keys), values, headDim));
      return { output: heads.map(({ mean }) => mean), lse: heads.map(({ lse }) => lse) };
    },
    step(query) {
      const coarse = pooled.map((vector) => dot(vector, naivePooled(query)));
      const similarity = units.map((unit) => sum(unit.map((u, head) => dot(u, naiveUnit(query[head]!)))) / groupSize);
      const near = rankedIds(coarse, 8 * options.numProbes).sort((a, b) => a - b);
      const probes: number[] = [];
      for (const place of rankedIds(
        near.map((c) => similarity[c]!),
        near.length,
      )) {
        const isNew = probes.every((c) => centroids[c]!.listId !== centroids[near[place]!]!.listId);
        if (isNew && probes.length < options.numProbes) probes.push(near[place]!);
      }
      const nearest = centroids[probes[0]!]!;
      const later = keys.map((_, p) => p).slice(nearest.blockEnd, region.end);
      const candidates = [...new Set([...probes.flatMap((c) => centroids[c]!.list), ...later])].sort((a, b) => a - b);
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
        const own = nearest.tail[head]!;
        const tailValue = naiveInt8(own.value);
        // lse at the tail's own query, moved to this one along the stored (8-bit) mean key.
        const moved = q.map((x, d) => x - nearest.tailQuery[head]![d]!);
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

/** The block that a build over all of `data` makes. */
export function firstBlock(data: HeadData, options: SelectorOptions): NaiveBlock {
  const { headDim, groupSize, keys } = data;
  const all = groupsOf(data.queries, groupSize, headDim);
  const madeAt = keys.length / headDim;
  const queries =
    options.centroids === 'spread' ? naiveSpread(all, options.numCentroids) : all.slice(-options.numCentroids);
  return { ...indexedRegion(madeAt, options), madeAt, queries };
}

function chunked<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
