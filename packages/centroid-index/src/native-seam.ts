/**
 * The part of the native binary this package uses, by structure: whoever has `@ctkvr/native` passes its binding, and this package needs
 * neither it nor its types. Kept equal to packages/native/src/binding.ts by a type test in packages/testkit.
 */
import type { SelectorOptions } from '@ctkvr/core';

/** `loadBinding()` of @ctkvr/native satisfies this. */
export interface NativeIndexBinding {
  readonly CentroidIndex: {
    build(input: {
      readonly keys: Float32Array;
      readonly values: Float32Array;
      readonly queries: Float32Array;
      readonly headDim: number;
      readonly groupSize: number;
      readonly options: SelectorOptions;
      readonly isa: string;
    }): Promise<NativeIndex>;
  };
}

/** One built index. Keys and values inside are f16. */
export interface NativeIndex {
  readonly numTokens: number;
  readonly numCentroids: number;
  readonly indexBytes: number;
  readonly volatility: number;
  list(centroid: number): Uint32Array;
  tail(centroid: number): { readonly lse: Float32Array; readonly value: Float32Array; readonly key: Float32Array };
  probe(query: Float32Array): { readonly centroids: Uint32Array; readonly similarities: Float32Array };
  candidates(centroids: Uint32Array): Uint32Array;
  scores(query: Float32Array, candidates: Uint32Array): Float32Array;
  close(): void;
}
