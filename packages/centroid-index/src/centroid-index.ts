/**
 * What an index over one layer's one KV head offers, whichever backend holds it: which keys past queries attended to, found again by
 * the similarity of a new query to them. The paper's qcIVF (arXiv 2512.15550) with a tail per centroid for what its list leaves out.
 */
import type { IndexedRegion, SelectorOptions } from '@ctkvr/core';
import type { NativeIndex } from './native-seam.js';

export interface CentroidIndex {
  readonly backend: 'reference' | 'native';
  readonly numTokens: number;
  readonly headDim: number;
  /** Query heads that share this KV head. */
  readonly groupSize: number;
  /** Centroids held; ids are 0 (oldest query) to numCentroids - 1 (newest). */
  readonly numCentroids: number;
  /** The settings it was built with, complete. */
  readonly options: SelectorOptions;
  /** Positions that lists may hold; what lies outside is always attended. */
  readonly region: IndexedRegion;
  /** Centroids a probe returns: min(options.numProbes, numCentroids). */
  readonly numProbed: number;
  /** Most candidates one probe's lists can unite to: size output buffers with it. */
  readonly maxCandidates: number;
  /** Bytes of lists, centroid vectors and tails. */
  readonly sizeBytes: number;
  /**
   * How much of what queries like the last ones attend to their lists would miss, as the build measured it (see volatility.ts): 0 to 1.
   * Where it is high, score every key instead, or ask for more.
   */
  readonly volatility: number;
  /** The native object behind, which also has scores, select and attend; null for the reference. */
  readonly native: NativeIndex | null;

  /** Returns the posting list of a centroid: positions, ascending. A copy. @throws {CtkvrError} CTKVR_INVALID_OPTION for an unknown id. */
  list(centroid: number): Uint32Array;

  /** Returns the tail of a centroid as stored; an empty one when built with `tail: false`. A copy. @throws {CtkvrError} CTKVR_INVALID_OPTION for an unknown id. */
  tail(centroid: number): CentroidTail;

  /**
   * Writes the nearest centroids, best first (ties: smaller id), and returns how many (numProbed).
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
   * Writes the ascending union of lists without repeats and returns its length.
   * @param input.centroids ids; any number, repeats allowed. @param input.out u32, room for the union.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH when out is too short, CTKVR_INVALID_OPTION for an unknown id.
   */
  candidates(input: { readonly centroids: Uint32Array; readonly out: Uint32Array }): number;

  /**
   * Writes what the keys outside a centroid's list amount to for a query: to first order in the query,
   * lse = base + scale q.keyTail; -Infinity (and zeros as value) when the list covers the region.
   * @param input.query f32 [groupSize, headDim]. @param input.lse f32 [groupSize], written.
   * @param input.value f32 [groupSize, headDim], written: softmax-weighted mean value of those keys.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_INVALID_OPTION.
   */
  tailAt(input: {
    readonly centroid: number;
    readonly query: Float32Array;
    readonly lse: Float32Array;
    readonly value: Float32Array;
  }): void;

  /** Frees what is held; idempotent. Anything else after it throws CTKVR_CLOSED. */
  close(): void;
}

/** The keys that a centroid's list leaves out, as its own query saw them. */
export interface CentroidTail {
  /** f32 [groupSize]: log of the sum over those keys of exp(scale q.k); -Infinity when there are none. */
  readonly lse: Float32Array;
  /** f32 [groupSize, headDim]: their softmax-weighted mean value, dequantised. */
  readonly value: Float32Array;
  /** f32 [groupSize, headDim]: their softmax-weighted mean key, dequantised: the gradient of lse, over scale. */
  readonly key: Float32Array;
}
