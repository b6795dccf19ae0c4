/**
 * One KV head's index on plain arrays, as the native engine (rust-kernels/crates/ctkvr-napi) offers it. Types only: packages/native types
 * its binding with them, packages/centroid-index and packages/token-refiner what they are given, so that these two need no binary.
 */
import type { RefineRules, SegmentInfo, TailEstimate, TailInfo } from './index-parts.js';
import type { IndexedRegion } from './indexed-region.js';
import type { SelectorOptions } from './selector-options.js';
import type { SelectionCounters } from './statistics.js';

/** `loadBinding()` of @ctkvr/native has it. */
export interface NativeIndexBinding {
  readonly CentroidIndex: NativeCentroidIndexConstructor;
}

/** Makes indexes off the JavaScript thread. Keys and values are copied, and stored as f16. */
export interface NativeCentroidIndexConstructor {
  /** Builds an index. @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION. */
  build(input: NativeIndexInput): Promise<NativeCentroidIndex>;
  /** Restores what `save` gave. @throws {CtkvrError} CTKVR_BAD_INDEX_IMAGE, CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE. */
  load(input: NativeIndexImage): Promise<NativeCentroidIndex>;
}

export interface NativeIndexInput {
  /** f32 [numTokens, headDim], rotated. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. */
  readonly values: Float32Array;
  /** f32 [any, groupSize, headDim], rotated, oldest first: `options.centroids` says which become centroids. */
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
  /** Instruction set; '' = best. */
  readonly isa: string;
}

export interface NativeIndexImage {
  readonly image: Uint8Array;
  /** f32 [numTokens, headDim]: those of the saved index. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. */
  readonly values: Float32Array;
  /** Instruction set; '' = best. */
  readonly isa: string;
}

/** Tokens to append. */
export interface NativeIndexAppend {
  /** f32 [new, headDim], rotated. */
  readonly keys: Float32Array;
  /** f32 [new, headDim]. */
  readonly values: Float32Array;
  /** f32 [new, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  /** 'prefill' or 'decode'. */
  readonly phase: string;
}

/** The attention of one query over all stored tokens. */
export interface NativeHeadAttention {
  /** f32 [groupSize, headDim]. */
  readonly output: Float32Array;
  /** f32 [groupSize]. */
  readonly lse: Float32Array;
  /** f32 [groupSize]: estimated share of the attention that was read, 0 to 1. */
  readonly mass: Float32Array;
  readonly counters: SelectionCounters;
}

/** A query is f32 [groupSize, headDim], rotated. While append, extend or insert runs, every other call but close is CTKVR_BUSY. */
export interface NativeCentroidIndex {
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  /** Centroids that probes look at. */
  readonly numCentroids: number;
  /** Indexed positions. */
  readonly region: IndexedRegion;
  /** The index's segments that probes look at, oldest first; the binary calls them blocks. */
  readonly blocks: readonly SegmentInfo[];
  /** Bytes of the index and of the queries kept for it, without keys and values. */
  readonly indexBytes: number;
  /** How much the lists would miss, 0 to 1. */
  readonly volatility: number;
  /** Nearest similarity below which a query is unlike those of the build; -1: none is. */
  readonly similarityFloor: number;
  /** Positions of centroid c, ascending. */
  list(centroid: number): Uint32Array;
  /** What stands for indexed positions that are not read; null without an index, or when its options say no tail. */
  tail(): TailInfo | null;
  /** What all indexed positions but `candidates` (ascending) amount to for a query. */
  tailAt(query: Float32Array, candidates: Uint32Array): TailEstimate;
  /** `candidates` (ascending) and the positions of the tail's heaviest clusters for a query, ascending. */
  widen(query: Float32Array, candidates: Uint32Array): Uint32Array;
  /** The numProbes nearest centroids, best first, and their similarities. */
  probe(query: Float32Array): { readonly centroids: Uint32Array; readonly similarities: Float32Array };
  /** Ascending union of the lists of `centroids`, and of the indexed positions that came after the first one's segment. */
  candidates(centroids: Uint32Array): Uint32Array;
  /** Exact scores f32 [groupSize, candidates.length]. */
  scores(query: Float32Array, candidates: Uint32Array): Float32Array;
  /** Probe, union, refine: selected positions ascending. */
  select(query: Float32Array): { readonly candidates: Uint32Array; readonly selected: Uint32Array };
  /** The whole decode attention at the end of the sequence. */
  attend(query: Float32Array): NativeHeadAttention;
  /** Selection among candidates from anywhere (ascending, inside the rules' region): positions, ascending. */
  selectAmong(query: Float32Array, candidates: Uint32Array, rules: RefineRules): Uint32Array;
  /** Attention over what lies around the rules' region, the selected candidates, and `tail` for the others. */
  attendAmong(
    query: Float32Array,
    candidates: Uint32Array,
    rules: RefineRules,
    tail?: TailEstimate,
  ): NativeHeadAttention;
  /** Stores the tokens that follow, off the JavaScript thread. */
  append(input: NativeIndexAppend): Promise<void>;
  /** Ends a turn: kept queries become a segment, off the JavaScript thread. */
  extend(): Promise<void>;
  /** Makes a query a centroid by an exact scan off the JavaScript thread. */
  insert(query: Float32Array): Promise<void>;
  /** Drops positions >= length. */
  truncate(length: number): void;
  /** A second index with the same content, which is shared until one of them changes. */
  fork(): NativeCentroidIndex;
  /** The index as bytes (packages/centroid-index/src/index-image.ts), without keys and values. */
  save(): Promise<Uint8Array>;
  close(): void;
}
