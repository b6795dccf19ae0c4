/** Builds an index on the backend asked for. The reference needs nothing; the native one is passed in by whoever has it. */
import { CtkvrError } from '@ctkvr/core';
import { type BuildCentroidIndexInput, resolveBuildInput } from './build-input.js';
import type { CentroidIndex } from './centroid-index.js';
import { NativeCentroidIndex } from './native-centroid-index.js';
import { ReferenceCentroidIndex } from './reference-centroid-index.js';

/** Longest the reference build holds the event loop, ms. */
const sliceMs = 20;

/**
 * Returns a built index over keys [numTokens, headDim] with the given queries as centroids.
 * Cost: numCentroids * groupSize * numTokens * headDim multiplications. The reference runs in slices on the JavaScript thread,
 * native on its own threads.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE, CTKVR_ABORTED.
 */
export async function buildCentroidIndex(input: BuildCentroidIndexInput): Promise<CentroidIndex> {
  const { backend = 'auto', native, isa = '', signal } = input;
  if (!['auto', 'native', 'reference'].includes(backend)) {
    throw new CtkvrError('CTKVR_INVALID_OPTION', `backend must be 'auto', 'native' or 'reference', got '${backend}'`, {
      fields: { option: 'backend', actual: String(backend) },
    });
  }
  if (backend === 'native' && native === undefined) {
    throw new CtkvrError(
      'CTKVR_NATIVE_UNAVAILABLE',
      "backend 'native' needs the binary: pass native: loadBinding() from @ctkvr/native, or use backend 'auto'",
    );
  }
  const resolved = resolveBuildInput(input);
  throwIfAborted(signal);
  if (native !== undefined && backend !== 'reference') {
    const { keys, values, queries, headDim, groupSize, options } = resolved;
    const built = await native.CentroidIndex.build({ keys, values, queries, headDim, groupSize, options, isa });
    return new NativeCentroidIndex(built, resolved);
  }
  const building = ReferenceCentroidIndex.build(resolved);
  for (let sliceEnd = performance.now() + sliceMs; ; ) {
    const step = building.next();
    if (step.done === true) return step.value;
    if (performance.now() < sliceEnd) continue;
    await new Promise((resolve) => setImmediate(resolve));
    throwIfAborted(signal);
    sliceEnd = performance.now() + sliceMs;
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new CtkvrError('CTKVR_ABORTED', 'buildCentroidIndex was aborted; nothing was built', { cause: signal.reason });
}
