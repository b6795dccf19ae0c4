/**
 * The segments of an index that grew, by definition (docs/design/retrieval.md): every token alone, nothing remembered but what was said.
 * Shares no code with the implementations.
 */
import { centroidCount, type SelectorOptions } from '@ctkvr/core';
import type { HeadData } from './head-data.js';
import { groupsOf } from './naive.js';
import type { NaiveStretch } from './naive-clusters.js';
import { firstLayout, type NaiveLayout, type NaiveSegment } from './naive-head.js';

/** What happens to an index after its build. */
export type GrowthEvent =
  | { readonly kind: 'append'; readonly count: number; readonly phase: 'prefill' | 'decode' }
  | { readonly kind: 'extend' }
  /** Repairs it with the i-th of the data's decode queries. */
  | { readonly kind: 'insert'; readonly decode: number };

export interface GrowthHistory {
  /** Tokens that the first build sees. */
  readonly builtAt: number;
  readonly events: readonly GrowthEvent[];
}

/**
 * Returns the segments that probes look at in the end, and the stretches of its tail, oldest first.
 * @param data keys, values and queries of every token: `data.queries` is [numTokens, groupSize, headDim].
 */
export function naiveGrowth(data: HeadData, options: SelectorOptions, { builtAt, events }: GrowthHistory): NaiveLayout {
  const queries = groupsOf(data.queries, data.groupSize, data.headDim);
  const decodes = groupsOf(data.decodes, data.groupSize, data.headDim);
  const layout = firstLayout(prefixOf(data, builtAt), options);
  const [first] = layout.segments as [NaiveSegment];
  const segments = [first];
  const stretches: NaiveStretch[] = [...layout.stretches];
  let kept: number[] = [];
  let length = builtAt;
  let turnEnd = builtAt;
  const add = (added: NaiveSegment['queries']) => {
    const end = Math.max(first.start, length - options.recentWindow);
    if (added.length === 0) return;
    const { end: before } = segments.at(-1)!;
    if (end > before) stretches.push({ start: before, end, madeAt: length });
    segments.push({ start: first.start, end, madeAt: length, queries: added });
  };
  const grow = () => {
    const region = Math.max(first.start, length - options.recentWindow) - first.start;
    add(kept.slice(-centroidCount(options, region)).map((position) => queries[position]!));
    kept = [];
  };
  for (const event of events) {
    if (event.kind === 'insert') add([decodes[event.decode]!]);
    if (event.kind === 'extend') {
      grow();
      turnEnd = length;
    }
    if (event.kind !== 'append') continue;
    for (let i = 0; i < event.count; i++) {
      if (event.phase === 'prefill' || length % 4 === 0) kept.push(length);
      length++;
      if (event.phase === 'decode' && (length - turnEnd) % options.appendSize === 0) grow();
    }
  }
  // The newest that together have at most 3/2 of the base's centroids, and at least the last.
  const base = options.numCentroids === 0 ? 384 : first.queries.length;
  const active: NaiveSegment[] = [];
  let total = 0;
  for (const segment of segments.reverse()) {
    total += segment.queries.length;
    if (active.length > 0 && 2 * total > 3 * base) break;
    active.unshift(segment);
  }
  return { segments: active, stretches };
}

/** The first `numTokens` tokens of data that has a query for every token. */
export function prefixOf(data: HeadData, numTokens: number): HeadData {
  const row = data.groupSize * data.headDim;
  return {
    ...data,
    keys: data.keys.slice(0, numTokens * data.headDim),
    values: data.values.slice(0, numTokens * data.headDim),
    queries: data.queries.slice(0, numTokens * row),
  };
}
