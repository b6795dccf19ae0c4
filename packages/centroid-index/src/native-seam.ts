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
    load(input: {
      readonly image: Uint8Array;
      readonly keys: Float32Array;
      readonly values: Float32Array;
      readonly isa: string;
    }): Promise<NativeIndex>;
  };
}

/** One built index. Keys and values inside are f16. */
export interface NativeIndex {
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly numCentroids: number;
  readonly region: readonly number[];
  readonly blocks: readonly { readonly end: number; readonly madeAt: number; readonly numCentroids: number }[];
  readonly indexBytes: number;
  readonly volatility: number;
  readonly similarityFloor: number;
  list(centroid: number): Uint32Array;
  tail(): {
    readonly corrections: Float32Array;
    readonly segments: readonly {
      readonly start: number;
      readonly madeAt: number;
      readonly clusterOf: Uint16Array;
      readonly keys: Float32Array;
      readonly values: Float32Array;
    }[];
  } | null;
  tailAt(query: Float32Array, candidates: Uint32Array): { readonly lse: Float32Array; readonly value: Float32Array };
  widen(query: Float32Array, candidates: Uint32Array): Uint32Array;
  probe(query: Float32Array): { readonly centroids: Uint32Array; readonly similarities: Float32Array };
  candidates(centroids: Uint32Array): Uint32Array;
  /** These three are what @ctkvr/token-refiner takes. */
  scores(query: Float32Array, candidates: Uint32Array): Float32Array;
  selectAmong(query: Float32Array, candidates: Uint32Array, rules: NativeRefineRules): Uint32Array;
  attendAmong(
    query: Float32Array,
    candidates: Uint32Array,
    rules: NativeRefineRules,
    tail?: { readonly lse: Float32Array; readonly value: Float32Array },
  ): {
    readonly output: Float32Array;
    readonly lse: Float32Array;
    readonly mass: Float32Array;
    readonly counters: { readonly selected: number };
  };
  append(input: {
    readonly keys: Float32Array;
    readonly values: Float32Array;
    readonly queries: Float32Array;
    readonly phase: string;
  }): Promise<void>;
  extend(): Promise<void>;
  insert(query: Float32Array): Promise<void>;
  truncate(length: number): void;
  fork(): NativeIndex;
  save(): Promise<Uint8Array>;
  close(): void;
}

/** `RefineRules` of @ctkvr/token-refiner. */
export interface NativeRefineRules {
  readonly numTokens: number;
  readonly start: number;
  readonly end: number;
  readonly maxSelected: number;
  readonly topP: number;
}
