/** What the suites need of a centroid index, and how one comes to be. */
import type { IndexedRegion, SegmentInfo, SelectorOptions, TailInfo } from '@ctkvr/core';
import { type HeadData, indexInput } from './head-data.js';
import { type GrowthEvent, type GrowthHistory, prefixOf } from './naive-growth.js';

/** What the suite needs of an index; `CentroidIndex` of @ctkvr/centroid-index has it. */
export interface CentroidIndexSubject {
  readonly numTokens: number;
  readonly groupSize: number;
  readonly numCentroids: number;
  readonly numProbed: number;
  readonly maxCandidates: number;
  readonly region: IndexedRegion;
  readonly segments: readonly SegmentInfo[];
  readonly sizeBytes: number;
  readonly volatility: number;
  readonly similarityFloor: number;
  list(centroid: number): Uint32Array;
  tail(): TailInfo | null;
  probe(input: { query: Float32Array; centroids: Uint32Array; similarities: Float32Array }): number;
  candidates(input: { centroids: Uint32Array; out: Uint32Array }): number;
  widen(input: { query: Float32Array; candidates: Uint32Array; out: Uint32Array }): number;
  tailAt(input: { query: Float32Array; candidates: Uint32Array; lse: Float32Array; value: Float32Array }): void;
  append(input: {
    keys: Float32Array;
    values: Float32Array;
    queries: Float32Array;
    phase: 'prefill' | 'decode';
  }): Promise<void>;
  extend(): Promise<void>;
  insert(query: Float32Array): Promise<void>;
  truncate(length: number): void;
  fork(): CentroidIndexSubject;
  save(): Promise<Uint8Array>;
  close(): void;
}

export interface CentroidIndexInput {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
}

/** How an implementation makes indexes; it may not change the input's buffers. */
export interface CentroidIndexMaker {
  build(input: CentroidIndexInput): Promise<CentroidIndexSubject>;
  load(input: { image: Uint8Array; keys: Float32Array; values: Float32Array }): Promise<CentroidIndexSubject>;
}

/** A data set, and how it came; without a history all of it is there when the index is built. */
export interface IndexCase {
  readonly data: HeadData;
  readonly options: SelectorOptions;
  readonly history?: GrowthHistory;
}

/** Builds the case's index and lets its history happen. */
export async function buildCase(make: CentroidIndexMaker, { data, options, history }: IndexCase) {
  if (history === undefined) return make.build({ ...indexInput(data), options });
  const index = await make.build({ ...indexInput(prefixOf(data, history.builtAt)), options });
  for (const event of history.events) await live(index, data, event);
  return index;
}

/** Lets one event happen; an append comes in pieces of at most `piece` tokens. */
export async function live(
  index: CentroidIndexSubject,
  data: HeadData,
  event: GrowthEvent,
  piece = Number.POSITIVE_INFINITY,
): Promise<void> {
  const { headDim, groupSize } = data;
  const row = headDim * groupSize;
  if (event.kind === 'extend') return index.extend();
  if (event.kind === 'insert') return index.insert(data.decodes.slice(event.decode * row, (event.decode + 1) * row));
  const end = index.numTokens + event.count;
  while (index.numTokens < end) {
    const from = index.numTokens;
    const to = Math.min(end, from + piece);
    await index.append({
      keys: data.keys.slice(from * headDim, to * headDim),
      values: data.values.slice(from * headDim, to * headDim),
      queries: data.queries.slice(from * row, to * row),
      phase: event.phase,
    });
  }
}
