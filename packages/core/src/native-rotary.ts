/**
 * Rotary embedding and the similarity of rotated queries on plain arrays, as the native engine (rust-kernels/crates/ctkvr-napi) offers them.
 * Types only: packages/native types its binding with them, packages/rope-similarity what it is given, so that it needs no binary.
 */
import type { CosineByDistance, OverlapBySimilarity } from './query-statistics.js';

/** `loadBinding()` of @ctkvr/native has it. */
export interface NativeRopeBinding {
  readonly RotaryEmbedding: NativeRotaryEmbeddingConstructor;
  /** Cosines of rotated queries by distance, on a worker thread: leave the arrays unchanged until it settles. */
  cosineByDistance(input: NativeCosineInput): Promise<CosineByDistance>;
  /** Overlap of top-k key sets against the similarity of queries, on a worker thread: leave the arrays unchanged until it settles. */
  overlapBySimilarity(input: NativeOverlapInput): Promise<OverlapBySimilarity>;
}

export interface NativeRotaryEmbeddingConstructor {
  create(options: NativeRotaryOptions): NativeRotaryEmbedding;
}

export interface NativeRotaryOptions {
  readonly headDim: number;
  /** 'half' | 'adjacent' */
  readonly pairing: string;
  /** Even, at most headDim. */
  readonly rotaryDim: number;
  readonly freqBase: number;
  readonly scaling: NativeRopeScaling;
}

/** A scaling of any type; the numbers that its type takes must be there. */
export interface NativeRopeScaling {
  /** 'none' | 'linear' | 'ntk' | 'dynamicNtk' | 'llama3' | 'yarn' */
  readonly type: string;
  readonly factor?: number;
  /** Positions. */
  readonly originalContext?: number;
  /** Positions. */
  readonly numTokens?: number;
  readonly lowFreqFactor?: number;
  readonly highFreqFactor?: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly attentionFactor?: number;
  readonly truncate?: boolean;
}

/** Rotates in place. */
export interface NativeRotaryEmbedding {
  /** Radians per position, f64 [rotaryDim / 2]. */
  readonly frequencies: Float64Array;
  /** Factor on the length of rotated vectors. */
  readonly magnitude: number;
  rotate(input: NativeRotation): void;
  /** On a worker thread: leave the vectors alone until it settles. */
  rotateAsync(input: NativeRotation): Promise<void>;
}

export interface NativeRotation {
  /** f32 [numTokens, numHeads, headDim], changed in place; left as it was when a value is not finite. */
  readonly vectors: Float32Array;
  /** [numTokens]; absent: 0, 1, 2, ... */
  readonly positions?: Uint32Array;
  readonly numHeads: number;
  readonly inverse: boolean;
}

export interface NativeCosineInput {
  /** f32 [numTokens, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  /** Positions apart. */
  readonly distances: Uint32Array;
}

export interface NativeOverlapInput {
  /** f32 [numQueries, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  /** f32 [numKeys, headDim], rotated. */
  readonly keys: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  readonly topK: number;
  /** Rows of `queries`, [numPairs, 2]. */
  readonly pairs: Uint32Array;
}
