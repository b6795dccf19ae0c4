/** The implementations of @ctkvr/rope-similarity: the reference, and the native one where there is a binary. */
import { type BackendChoice, CtkvrError, type NativeRopeBinding } from '@ctkvr/core';
import { loadBinding } from '@ctkvr/native';
import { cosineByDistance, overlapBySimilarity, RotaryEmbedding } from '@ctkvr/rope-similarity';
import type { RopeSimilaritySubject } from '../src/index.js';

function subject(choice: BackendChoice<NativeRopeBinding>): RopeSimilaritySubject {
  return {
    rope: (options) => new RotaryEmbedding({ ...options, ...choice }),
    cosineByDistance: (input) => cosineByDistance({ ...input, ...choice }),
    overlapBySimilarity: (input) => overlapBySimilarity({ ...input, ...choice }),
  };
}

export const reference = subject({ backend: 'reference' });

/** The native implementation, or the reason why there is none. */
export function tryNative(): { native: RopeSimilaritySubject } | { reason: string } {
  try {
    return { native: subject({ backend: 'native', native: loadBinding() }) };
  } catch (error) {
    if (!CtkvrError.isInstance(error) || error.code !== 'CTKVR_NATIVE_UNAVAILABLE') throw error;
    return { reason: error.message.split('\n')[0]! };
  }
}
