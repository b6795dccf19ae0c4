/**
 * The interface of an index over one KV head of one layer, the same for every backend. It finds which keys past queries attended to, by the
 * similarity of a new query to them: the paper's qcIVF (arXiv 2512.15550), grown in segments, with clusters of keys for what lists miss.
 */
import type { IndexedRegion, NativeCentroidIndex, SegmentInfo, SelectorOptions, TailInfo } from '@ctkvr/core';
import type { Phase } from './growth.js';

export interface CentroidIndex {
  readonly backend: 'reference' | 'native';
  /** Tokens whose keys and values are stored. */
  readonly numTokens: number;
  readonly headDim: number;
  /** Query heads that share this KV head. */
  readonly groupSize: number;
  /** Centroids that probes look at; ids are 0 (oldest) to numCentroids - 1 (newest), and change when old segments are dropped. */
  readonly numCentroids: number;
  /** The settings it was built with, complete. */
  readonly options: SelectorOptions;
  /** Indexed positions; what lies outside is always attended. Empty without an index: then everything is. */
  readonly region: IndexedRegion;
  /** The segments that probes look at, oldest first: centroid ids count through them. None when a cut left no index. */
  readonly segments: readonly SegmentInfo[];
  /** Most centroids a probe returns: options.numProbes, or all lists where there are fewer. */
  readonly numProbed: number;
  /** Most candidates that one probe, and `widen` after it, can give: the length of output buffers. */
  readonly maxCandidates: number;
  /** Bytes of lists, centroid vectors, tail and the queries kept for growth; keys and values apart. */
  readonly sizeBytes: number;
  /**
   * How much attention the lists and `widen` would miss for queries like the last ones, as the build measured it (volatility.ts): 0 to 1.
   * Where it is high, score every key instead, or raise `numProbes` and `listLength`.
   */
  readonly volatility: number;
  /** A query whose nearest centroid is less similar than this should be inserted: the index serves it badly. -1: never. */
  readonly similarityFloor: number;
  /** The native index behind, which also has scores, select and attend; null for the reference. */
  readonly native: NativeCentroidIndex | null;

  /** Returns the posting list of a centroid: positions, ascending. A copy. @throws {CtkvrError} CTKVR_INVALID_OPTION for an unknown id. */
  list(centroid: number): Uint32Array;

  /** Returns what stands for indexed positions that are not read, a copy; null without an index, and when built with `tail: false`. */
  tail(): TailInfo | null;

  /**
   * Writes the nearest centroids of different lists, best first (ties: smaller id), and returns how many: at most numProbed.
   * @param input.query f32 [groupSize, headDim], rotated at its position.
   * @param input.centroids u32, length >= numProbed, written. @param input.similarities f32, length >= numProbed, written.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE.
   */
  probe(input: {
    readonly query: Float32Array;
    readonly centroids: Uint32Array;
    readonly similarities: Float32Array;
  }): number;

  /**
   * Writes the ascending union, without repeats, of the centroids' lists and of the indexed positions that came after the first one's
   * segment, and returns its length.
   * @param input.centroids ids as a probe gives them, the nearest first; any number, repeats allowed. @param input.out u32, room for it.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH when out is too short, CTKVR_INVALID_OPTION for an unknown id.
   */
  candidates(input: { readonly centroids: Uint32Array; readonly out: Uint32Array }): number;

  /**
   * Adds keys that no past query attended to: writes the candidates and all positions of the `options.clusterProbes` heaviest clusters
   * (weighed without the candidates), ascending, no repeats, and returns how many. Without a tail, the candidates.
   * @param input.query f32 [groupSize, headDim]. @param input.candidates u32, ascending, no repeats, inside `region`.
   * @param input.out u32, room for it (maxCandidates is enough); may be the buffer that the candidates are in.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION (candidates).
   */
  widen(input: { readonly query: Float32Array; readonly candidates: Uint32Array; readonly out: Uint32Array }): number;

  /**
   * Writes an estimate of the attention over all indexed positions but the candidates, from the clusters' means: the corrected log-sum-exp of
   * their scores, and their softmax-weighted mean value; -Infinity and zeros where nothing is left, and without a tail.
   * @param input.query f32 [groupSize, headDim]. @param input.candidates u32, ascending, no repeats, inside `region`.
   * @param input.lse f32 [groupSize], written. @param input.value f32 [groupSize, headDim], written.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION (candidates).
   */
  tailAt(input: {
    readonly query: Float32Array;
    readonly candidates: Uint32Array;
    readonly lse: Float32Array;
    readonly value: Float32Array;
  }): void;

  /**
   * Stores the tokens that follow; how they are split into calls makes no difference. Generated tokens (phase decode): every fourth query is
   * kept, and every `options.appendSize` tokens the index grows by a segment. Prompt tokens (prefill): all queries are kept until `extend`.
   * Until it resolves, every other call is CTKVR_BUSY. When it rejects, nothing has changed.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_ABORTED.
   */
  append(input: AppendInput): Promise<void>;

  /**
   * Ends a turn: the queries kept since the last segment, at most the last `options.numCentroids`, become centroids over all that is stored.
   * Where a cut left no index, they make a new one. Busy as `append`. @throws {CtkvrError} CTKVR_ABORTED.
   */
  extend(input?: { readonly signal?: AbortSignal }): Promise<void>;

  /**
   * Repairs the index for a query that it serves badly: an exact scan makes it a centroid with a list of its own.
   * Busy as `append`. @param query f32 [groupSize, headDim].
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION where a cut left no index.
   */
  insert(query: Float32Array): Promise<void>;

  /**
   * Drops positions >= length, as if they had never been appended. Old segments are dropped in time (docs/design/retrieval.md): a cut that
   * would need one leaves no index, and `segments` is empty. @throws {CtkvrError} CTKVR_INVALID_OPTION.
   */
  truncate(length: number): void;

  /** Returns a second index with the same content; what is common is shared, and neither sees what the other does later. */
  fork(): CentroidIndex;

  /**
   * Returns the index as an image for `loadCentroidIndex`, without keys and values: versioned, checksummed, the same for every backend
   * that holds the same codes. Busy as `append` in the reference.
   */
  save(): Promise<Uint8Array>;

  /** Frees what is held; idempotent. Anything else after it throws CTKVR_CLOSED. */
  close(): void;
}

export interface AppendInput {
  /** f32 [any, headDim], rotated. */
  readonly keys: Float32Array;
  /** f32 [same, headDim]. */
  readonly values: Float32Array;
  /** f32 [same, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  readonly phase: Phase;
  /** Stops a reference append. */
  readonly signal?: AbortSignal;
}
