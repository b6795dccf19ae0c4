/** Restores a saved index on the chosen backend. */
import { checkFinite, checkLength, checkOptions, chooseBackend, type OptionChecks, takes } from '@ctkvr/core';
import { backendChecks, type IndexBackend } from './build-input.js';
import type { CentroidIndex } from './centroid-index.js';
import { decodeIndexImage, imageShape } from './decode-index-image.js';
import { NativeCentroidIndex } from './native-centroid-index.js';
import { ReferenceCentroidIndex } from './reference-centroid-index.js';

export interface LoadCentroidIndexInput extends IndexBackend {
  /** What `save` of any backend gave; a view of a mapped file will do. Copied. */
  readonly image: Uint8Array;
  /** The keys that the index is of: f32 [numTokens, headDim]. Copied. They are not checked: other keys give wrong answers. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. Copied. */
  readonly values: Float32Array;
}

const inputChecks: OptionChecks<LoadCentroidIndexInput> = {
  ...backendChecks,
  image: takes.bytes,
  keys: takes.float32,
  values: takes.float32,
};

/**
 * Returns the saved index. It answers and grows as the one that was saved, bit for bit on the same backend and kernels. Its options are the
 * saved ones; those that do not matter to an index (`method`, `retrievalHeadShare`, `denseBelow`) are the defaults.
 * @throws {CtkvrError} CTKVR_BAD_INDEX_IMAGE for what is damaged, of another kind or newer (fields: field, expected, actual),
 * CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE.
 */
export async function loadCentroidIndex(input: LoadCentroidIndexInput): Promise<CentroidIndex> {
  const op = 'loadCentroidIndex';
  checkOptions(op, input, inputChecks);
  const { image, keys, values, isa = '' } = input;
  const native = chooseBackend(input);
  if (native !== undefined) {
    const loaded = await native.CentroidIndex.load({ image, keys, values, isa });
    return new NativeCentroidIndex(loaded, imageShape(image).options);
  }
  const decoded = decodeIndexImage(image);
  const { numTokens, headDim } = decoded;
  const shape = `[numTokens, headDim] = [${numTokens}, ${headDim}]`;
  checkLength(keys.length, numTokens * headDim, { op, name: 'keys', shape });
  checkLength(values.length, numTokens * headDim, { op, name: 'values', shape });
  for (const [name, numbers] of Object.entries({ keys, values })) checkFinite(numbers, { op, name });
  return ReferenceCentroidIndex.load(decoded, { keys, values });
}
