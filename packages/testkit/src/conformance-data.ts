/** The data sets every conformance suite runs over. f16-rounded throughout, so that backends that store f16 start from the same numbers. */
import { resolveSelectorOptions, type SelectorOptions } from '@ctkvr/core';
import { roundToF16 } from './f16.js';
import { geometricHeadData } from './geometric-head-data.js';
import { type HeadData, integerHeadData } from './head-data.js';
import type { GrowthEvent, GrowthHistory } from './naive-growth.js';
import { realHeads } from './real-heads.js';

export interface ConformanceCase {
  readonly name: string;
  readonly data: HeadData;
  readonly options: SelectorOptions;
}

const sizes = { numCentroids: 24, numDecodes: 4 };
/** Few enough that something is left when the heaviest are found. */
const smallClusters = { clusterSize: 8, clusterProbes: 2 };

/** Returns fresh data sets; region lengths lie on both sides of powers of two that blocks and SIMD widths like. */
export function conformanceCases(): ConformanceCase[] {
  const integers = { ...sizes, headDim: 16, groupSize: 2 };
  const few = {
    ...smallClusters,
    numSinkTokens: 4,
    recentWindow: 16,
    numCentroids: 24,
    listLength: 32,
    numProbes: 3,
    maxSelected: 24,
  };
  const make = (name: string, data: HeadData, options: Partial<SelectorOptions> = {}): ConformanceCase => ({
    name,
    data: f16(data),
    options: resolveSelectorOptions({ denseBelow: 0, ...few, ...options }),
  });
  return [
    make('integers, 300 tokens', integerHeadData({ seed: 11, numTokens: 300, ...integers })),
    make(
      'integers with ties',
      integerHeadData({ seed: 12, numTokens: 276, ...integers, distinctKeys: 40, distinctQueries: 7 }),
    ),
    make('one query head', integerHeadData({ seed: 13, numTokens: 277, ...integers, groupSize: 1 })),
    make('seven query heads', integerHeadData({ seed: 14, numTokens: 149, ...integers, groupSize: 7 })),
    make('empty region', integerHeadData({ seed: 15, numTokens: 20, ...integers })),
    make('one token', integerHeadData({ seed: 16, numTokens: 1, ...integers })),
    make('region of one key', integerHeadData({ seed: 17, numTokens: 21, ...integers })),
    make('lists cover the region', integerHeadData({ seed: 18, numTokens: 90, ...integers }), { listLength: 4096 }),
    make('fewer keys than centroids', integerHeadData({ seed: 19, numTokens: 36, ...integers }), { listLength: 5 }),
    make('two centroids a list', integerHeadData({ seed: 23, numTokens: 300, ...integers }), { centroidsPerList: 2 }),
    make('four centroids a list, the last of three', integerHeadData({ seed: 24, numTokens: 190, ...integers }), {
      centroidsPerList: 4,
      numCentroids: 23,
    }),
    make(
      'ties in shared lists',
      integerHeadData({ seed: 25, numTokens: 150, ...integers, distinctKeys: 20, distinctQueries: 7 }),
      { centroidsPerList: 2 },
    ),
    make('spread centroids', integerHeadData({ seed: 26, numTokens: 200, ...integers }), {
      centroids: 'spread',
      numCentroids: 11,
    }),
    make('one cluster', integerHeadData({ seed: 27, numTokens: 51, ...integers }), {
      clusterSize: 32,
      clusterProbes: 1,
    }),
    make('clusters only stand for the rest', integerHeadData({ seed: 28, numTokens: 280, ...integers }), {
      clusterSize: 16,
      clusterProbes: 0,
    }),
    make('all clusters found', integerHeadData({ seed: 29, numTokens: 120, ...integers }), { clusterProbes: 100 }),
    make('no tail', integerHeadData({ seed: 20, numTokens: 200, ...integers }), { tail: false }),
    // No share lies within rounding of a sum of the heaviest weights.
    make('top p', integerHeadData({ seed: 23, numTokens: 260, ...integers }), { topP: 0.9, maxSelected: 0 }),
    make('top p, capped, no tail', integerHeadData({ seed: 24, numTokens: 260, ...integers }), {
      topP: 0.97,
      maxSelected: 12,
      tail: false,
    }),
    make('top p, geometric', geometricHeadData({ seed: 25, numTokens: 300, headDim: 64, groupSize: 3, ...sizes }), {
      topP: 0.5,
      maxSelected: 0,
    }),
    make('geometric, headDim 64', geometricHeadData({ seed: 21, numTokens: 400, headDim: 64, groupSize: 3, ...sizes })),
    make(
      'geometric, headDim 128',
      geometricHeadData({ seed: 22, numTokens: 200, headDim: 128, groupSize: 2, ...sizes }),
    ),
    ...realHeads().map(({ name, data }) => make(name, data, { numCentroids: 64, centroidsPerList: 2 })),
  ];
}

export interface GrowthCase extends ConformanceCase {
  /** `data` has a query for every token; the history says how they came. */
  readonly history: GrowthHistory;
}

/** Returns fresh histories of an index: growth while decoding, several turns, repairs, segments that fall out. */
export function growthCases(): GrowthCase[] {
  const decode = (count: number): GrowthEvent => ({ kind: 'append', count, phase: 'decode' });
  const prefill = (count: number): GrowthEvent => ({ kind: 'append', count, phase: 'prefill' });
  const few = {
    ...smallClusters,
    numSinkTokens: 4,
    recentWindow: 16,
    numCentroids: 24,
    listLength: 20,
    numProbes: 3,
    maxSelected: 24,
  };
  const make = (
    name: string,
    { builtAt, events }: GrowthHistory,
    {
      options = {},
      geometric = false,
      seed,
    }: { options?: Partial<SelectorOptions>; geometric?: boolean; seed: number },
  ): GrowthCase => {
    const numTokens = events.reduce((sum, event) => sum + (event.kind === 'append' ? event.count : 0), builtAt);
    const of = { seed, numTokens, numCentroids: numTokens, numDecodes: 4, headDim: 16, groupSize: 2 };
    const data = f16(geometric ? geometricHeadData(of) : integerHeadData(of));
    const complete = resolveSelectorOptions({ denseBelow: 0, appendSize: 20, ...few, ...options });
    return { name, data, options: complete, history: { builtAt, events } };
  };
  const extend: GrowthEvent = { kind: 'extend' };
  return [
    make('grown while decoding', { builtAt: 120, events: [decode(45)] }, { seed: 31 }),
    make('a second turn', { builtAt: 100, events: [decode(13), prefill(9), extend, decode(25)] }, { seed: 32 }),
    make(
      'repaired and grown, shared lists',
      { builtAt: 110, events: [decode(22), { kind: 'insert', decode: 1 }, decode(20)] },
      { seed: 33, options: { centroidsPerList: 4 } },
    ),
    make('old segments dropped', { builtAt: 90, events: [decode(230)] }, { seed: 34, options: { numCentroids: 10 } }),
    make(
      'a long turn',
      { builtAt: 60, events: [prefill(70), extend] },
      { seed: 35, geometric: true, options: { centroidsPerList: 2 } },
    ),
    // The first segment is pushed out: 100 + 4 * 128 centroids are more than 3/2 of 384.
    make(
      'as many centroids as the region says',
      { builtAt: 100, events: Array.from({ length: 4 }, () => [prefill(150), extend]).flat() },
      { seed: 37, options: { numCentroids: 0, centroidsPerList: 2 } },
    ),
    make('grown from an empty region', { builtAt: 12, events: [decode(60)] }, { seed: 36, options: { listLength: 4 } }),
  ];
}

function f16(data: HeadData): HeadData {
  for (const values of [data.keys, data.values, data.queries, data.decodes]) roundToF16(values);
  return data;
}
