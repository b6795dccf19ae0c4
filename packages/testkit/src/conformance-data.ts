/** The data sets every conformance suite runs over. f16-rounded throughout, so that backends that store f16 start from the same numbers. */
import { resolveSelectorOptions, type SelectorOptions } from '@ctkvr/core';
import { roundToF16 } from './f16.js';
import { geometricHeadData } from './geometric-head-data.js';
import { type HeadData, integerHeadData } from './head-data.js';

export interface ConformanceCase {
  readonly name: string;
  readonly data: HeadData;
  readonly options: SelectorOptions;
}

const sizes = { numCentroids: 24, numDecodes: 4 };

/** Returns fresh data sets; region lengths lie on both sides of powers of two that blocks and SIMD widths like. */
export function conformanceCases(): ConformanceCase[] {
  const integers = { ...sizes, headDim: 16, groupSize: 2 };
  const few = { numSinkTokens: 4, recentWindow: 16, numCentroids: 24, listLength: 32, numProbes: 3, maxSelected: 24 };
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
  ];
}

function f16(data: HeadData): HeadData {
  for (const values of [data.keys, data.values, data.queries, data.decodes]) roundToF16(values);
  return data;
}
