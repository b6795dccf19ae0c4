/**
 * The native backend of a refiner: `CentroidIndex.native` of @ctkvr/centroid-index. Keys and values are the index's own, stored as f16.
 */
import { CtkvrError, type NativeCentroidIndex, type NativeHeadAttention, type SelectionCounters } from '@ctkvr/core';

/** What a refiner needs of a native index. Of the counters it reads how many candidates were selected. */
export interface NativeRefiner extends Pick<NativeCentroidIndex, 'scores' | 'selectAmong'> {
  attendAmong(
    ...input: Parameters<NativeCentroidIndex['attendAmong']>
  ): Omit<NativeHeadAttention, 'counters'> & { readonly counters: Pick<SelectionCounters, 'selected'> };
}

/** Returns the backend to use: `native`, or undefined for the reference. @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE. */
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
