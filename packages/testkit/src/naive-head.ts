/** The whole algorithm for one KV head by definition (docs/design/retrieval.md), from `naive.ts`. For tests. */
import { centroidCount, type IndexedRegion, indexedRegion, postingListLength, type SelectorOptions } from '@ctkvr/core';
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
  rankedIds,
  rowsOf,
} from './naive.js';
import { type NaiveStretch, type NaiveTail, naiveTail, naiveWeigh, naiveWiden } from './naive-clusters.js';
import { naiveSpread } from './naive-spread.js';

/** Centroids made at one time over positions [start, end). */
export interface NaiveSegment {
  readonly start: number;
  readonly end: number;
  /** Tokens stored when it was made. */
  readonly madeAt: number;
  /** [numCentroids][groupSize][headDim] */
  readonly queries: readonly (readonly (readonly number[])[])[];
}

/** How an index is made up. */
export interface NaiveLayout {
  /** What probes look at, oldest first. */
  readonly segments: readonly NaiveSegment[];
  /** What its tail's segments are of, in order. */
  readonly stretches: readonly NaiveStretch[];
}

export interface NaiveCentroid {
  /** [numKeys of the segment's region]: what the list ranks by. */
  readonly ranking: readonly number[];
  /** Shared with the neighbours of `listId`. */
  readonly list: readonly number[];
  readonly listId: number;
  /** Where its segment's region ends. */
  readonly segmentEnd: number;
}

export interface NaiveStep {
  /** [numCentroids] */
  readonly similarity: readonly number[];
  readonly probes: readonly number[];
  /** [numClusters]: sum over heads of the share of all weight that the probed lists leave in each cluster. */
  readonly shares: readonly number[];
  /** The probed lists, what came after the nearest segment, and the tail's heaviest clusters. */
  readonly candidates: readonly number[];
  /** [groupSize][candidates.length] */
  readonly scores: readonly (readonly number[])[];
  /** [candidates.length] */
  readonly weights: readonly number[];
  readonly selected: readonly number[];
  /** [groupSize]: of what is no candidate; -Infinity for nothing. */
  readonly tailLse: readonly number[];
  /** [groupSize][headDim]: its mean value. */
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
 * @param layout as naive-growth.ts has it; without it, what a build over all of `data` makes.
 * @param tail the one that the index in question has; without it, that of the layout, corrected by nothing.
 */
export function naiveHead(
  data: HeadData,
  options: SelectorOptions,
  layout = firstLayout(data, options),
  tail?: NaiveTail,
): NaiveHead {
  const { headDim } = data;
  const { segments } = layout;
  let ownTail = tail;
  const keys = rowsOf(data.keys, headDim);
  const values = rowsOf(data.values, headDim);
  const queries = segments.flatMap((segment) => segment.queries);
  const region = { start: segments[0]!.start, end: segments.at(-1)!.end };
  const rows = (of: readonly (readonly number[])[], positions: readonly number[]) => positions.map((p) => of[p]!);

  const lists = segments.flatMap((segment) => {
    const segmentKeys = keys.slice(segment.start, segment.end);
    return chunked(segment.queries, options.centroidsPerList).map((members) => {
      const weights = members.map((group) => naiveGroupWeights(group, segmentKeys));
      const ranking = segmentKeys.map((_, j) => weights.reduce((total, of) => total + of[j]!, 0));
      const list = rankedIds(
        ranking,
        postingListLength(options, { numKeys: segmentKeys.length, groupSize: members[0]!.length }),
      )
        .map((j) => j + segment.start)
        .sort((a, b) => a - b);
      return { members, shared: { ranking, list, segmentEnd: segment.end } };
    });
  });
  const centroids = lists.flatMap(({ members, shared }, listId): NaiveCentroid[] =>
    members.map(() => ({ ...shared, listId })),
  );
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
      const similarity = pooled.map((vector) => dot(vector, naivePooled(query)));
      const probes: number[] = [];
      for (const near of rankedIds(similarity, similarity.length)) {
        const isNew = probes.every((c) => centroids[c]!.listId !== centroids[near]!.listId);
        if (isNew && probes.length < options.numProbes) probes.push(near);
      }
      const nearest = centroids[probes[0]!]!;
      const later = keys.map((_, p) => p).slice(nearest.segmentEnd, region.end);
      const taken = [...probes.flatMap((c) => centroids[c]!.list), ...later];
      const { clusterProbes } = options;
      ownTail ??= naiveTail(data, options.tail ? layout.stretches : [], options);
      const { shares } = naiveWeigh(ownTail, query, taken);
      const candidates = naiveWiden(ownTail, query, { taken, clusterProbes });
      const rest = naiveWeigh(ownTail, query, candidates);
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
        const [tailLse, tailValue] = [rest.lse[head]!, rest.value[head]!];
        const dropped = scores[head]!.filter((_, i) => !inSelected.has(candidates[i]!));
        const unread = naiveLse([tailLse, ...dropped]);
        const mass = Math.exp(exact.lse - naiveLse([exact.lse, unread]));
        if (tailLse === Number.NEGATIVE_INFINITY) return { output: exact.mean, lse: exact.lse, mass };
        const merged = naiveAttention([exact.lse, unread], [exact.mean, tailValue], headDim);
        return { output: merged.mean, lse: merged.lse, mass };
      });
      return {
        similarity,
        probes,
        shares,
        candidates,
        scores,
        weights,
        selected,
        tailLse: rest.lse,
        tailValue: rest.value,
        output: heads.map(({ output }) => output),
        lse: heads.map(({ lse }) => lse),
        mass: heads.map(({ mass }) => mass),
      };
    },
  };
}

/** What a build over all of `data` makes. */
export function firstLayout(data: HeadData, options: SelectorOptions): NaiveLayout {
  const { headDim, groupSize, keys } = data;
  const all = groupsOf(data.queries, groupSize, headDim);
  const madeAt = keys.length / headDim;
  const stretch = { ...indexedRegion(madeAt, options), madeAt };
  const count = centroidCount(options, stretch.end - stretch.start);
  const queries = options.centroids === 'spread' ? naiveSpread(all, count) : all.slice(-count);
  return { segments: [{ ...stretch, queries }], stretches: stretch.end > stretch.start ? [stretch] : [] };
}

function chunked<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
