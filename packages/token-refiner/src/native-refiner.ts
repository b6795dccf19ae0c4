/**
 * What a native index offers a refiner, by structure, so that this package needs no native one: `CentroidIndex.native` of
 * @ctkvr/centroid-index satisfies it. Keys and values are the index's own, stored as f16.
 */
import { CtkvrError } from '@ctkvr/core';
import type { TailEstimate } from './tail-partial.js';

/** Where candidates may lie and how many of them are read. */
export interface RefineRules {
  readonly numTokens: number;
  /** The region of the candidates, [start, end); what is around it is always attended. */
  readonly start: number;
  readonly end: number;
  /** 0 = all. */
  readonly maxSelected: number;
  /** 1 = off. */
  readonly topP: number;
}

export interface NativeRefiner {
  /** Exact scores f32 [groupSize, candidates.length]. */
  scores(query: Float32Array, candidates: Uint32Array): Float32Array;
  /** Selected positions, ascending. */
  selectAmong(query: Float32Array, candidates: Uint32Array, rules: RefineRules): Uint32Array;
  /** Attention over what is around the region, the selected candidates, and the tail; `counters.selected` of them were read. */
  attendAmong(
    query: Float32Array,
    candidates: Uint32Array,
    rules: RefineRules,
    tail?: TailEstimate,
  ): {
    readonly output: Float32Array;
    readonly lse: Float32Array;
    readonly mass: Float32Array;
    readonly counters: { readonly selected: number };
  };
}

/** Returns what `backend` asks for: `native`, or undefined for the reference. @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE. */
export function chooseBackend(backend: unknown, native: NativeRefiner | null | undefined): NativeRefiner | undefined {
  if (backend !== 'auto' && backend !== 'native' && backend !== 'reference') {
    throw new CtkvrError('CTKVR_INVALID_OPTION', `backend must be 'auto', 'native' or 'reference', got '${backend}'`, {
      fields: { option: 'backend', actual: String(backend) },
    });
  }
  if (backend === 'native' && !native) {
    throw new CtkvrError(
      'CTKVR_NATIVE_UNAVAILABLE',
      "backend 'native' needs a native index: pass native: index.native of a native CentroidIndex, or use backend 'auto'",
    );
  }
  return backend === 'reference' ? undefined : (native ?? undefined);
}
