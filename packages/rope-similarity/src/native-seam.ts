/**
 * The part of the native binary this package uses, by structure: whoever has `@ctkvr/native` passes its binding, and this package needs
 * neither it nor its types. Kept equal to packages/native/src/binding.ts by a type test in packages/testkit.
 */
import type { CosineByDistance } from './cosine-by-distance.js';
import type { OverlapBySimilarity } from './overlap-by-similarity.js';
import type { ResolvedRopeScaling } from './rope-scaling.js';

/** `loadBinding()` of @ctkvr/native satisfies this. */
export interface NativeRopeBinding {
  readonly RotaryEmbedding: {
    create(options: {
      readonly headDim: number;
      readonly pairing: string;
      readonly rotaryDim: number;
      readonly freqBase: number;
      readonly scaling: ResolvedRopeScaling;
    }): NativeRotaryEmbedding;
  };
  cosineByDistance(input: {
    readonly queries: Float32Array;
    readonly groupSize: number;
    readonly headDim: number;
    readonly distances: Uint32Array;
  }): Promise<CosineByDistance>;
  overlapBySimilarity(input: {
    readonly queries: Float32Array;
    readonly keys: Float32Array;
    readonly groupSize: number;
    readonly headDim: number;
    readonly topK: number;
    readonly pairs: Uint32Array;
  }): Promise<OverlapBySimilarity>;
}

/** A rotary embedding that rotates in place. */
export interface NativeRotaryEmbedding {
  readonly frequencies: Float64Array;
  readonly magnitude: number;
  rotate(input: NativeRotation): void;
  rotateAsync(input: NativeRotation): Promise<void>;
}

export interface NativeRotation {
  /** f32 [numTokens, numHeads, headDim], changed in place. */
  readonly vectors: Float32Array;
  /** Absent: 0, 1, 2, ... */
  readonly positions?: Uint32Array;
  readonly numHeads: number;
  readonly inverse: boolean;
}
