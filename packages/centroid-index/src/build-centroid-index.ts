/** Builds an index on the chosen backend. */
import { chooseBackend } from '@ctkvr/core';
import { type BuildCentroidIndexInput, resolveBuildInput } from './build-input.js';
import type { CentroidIndex } from './centroid-index.js';
import { inSlices, throwIfAborted } from './in-slices.js';
import { NativeCentroidIndex } from './native-centroid-index.js';
import { ReferenceCentroidIndex } from './reference-centroid-index.js';

/**
 * Returns a built index over keys [numTokens, headDim] with the given queries as centroids.
 * Cost: numCentroids * groupSize * numTokens * headDim multiplications. The reference runs in slices on the JavaScript thread,
 * native on its own threads.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE, CTKVR_ABORTED.
 */
export async function buildCentroidIndex(input: BuildCentroidIndexInput): Promise<CentroidIndex> {
  const resolved = resolveBuildInput(input);
  const { isa = '', signal } = input;
  const op = 'buildCentroidIndex';
  const native = chooseBackend(input);
  throwIfAborted(op, signal);
  if (native === undefined) return inSlices(ReferenceCentroidIndex.build(resolved), op, signal);
  return new NativeCentroidIndex(await native.CentroidIndex.build({ ...resolved, isa }), resolved.options);
}
