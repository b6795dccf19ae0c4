/**
 * Similarity of two decode queries: the mean over the query heads of a group of the cosine between them. A centroid index probes by
 * it (docs/design/retrieval.md).
 */

import { checkCapacity, checkOptions, takes } from '@ctkvr/core';

const offset = takes.optional(takes.integer(0, Number.MAX_SAFE_INTEGER));
const size = takes.integer(1, 65536);
const inputChecks = {
  a: takes.float32,
  aOffset: offset,
  b: takes.float32,
  bOffset: offset,
  groupSize: size,
  headDim: size,
};

/**
 * Returns the mean over heads of cos(a[h], b[h]), in [-1, 1]; a head of zeros counts as cosine 0. Allocates nothing.
 * Offsets let rows of larger buffers be compared in place.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_SHAPE_MISMATCH.
 */
export function groupCosine(input: {
  /** f32; row [groupSize, headDim] at aOffset. */
  readonly a: Float32Array;
  readonly aOffset?: number;
  /** f32; row [groupSize, headDim] at bOffset. */
  readonly b: Float32Array;
  readonly bOffset?: number;
  readonly groupSize: number;
  readonly headDim: number;
}): number {
  const op = 'groupCosine';
  checkOptions(op, input, inputChecks);
  const { a, aOffset = 0, b, bOffset = 0, groupSize, headDim } = input;
  checkCapacity(a.length - aOffset, groupSize * headDim, { op, name: 'a' });
  checkCapacity(b.length - bOffset, groupSize * headDim, { op, name: 'b' });
  let sum = 0;
  for (let head = 0; head < groupSize; head++) {
    sum += headCosine(a, aOffset + head * headDim, b, bOffset + head * headDim, headDim);
  }
  return sum / groupSize;
}

/** Returns the cosine of two vectors [headDim] at offsets, in [-1, 1]; 0 when one is zeros. */
export function headCosine(
  a: Float32Array,
  aOffset: number,
  b: Float32Array,
  bOffset: number,
  headDim: number,
): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let d = 0; d < headDim; d++) {
    const x = a[aOffset + d]!;
    const y = b[bOffset + d]!;
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  // Rounding may carry the cosine of parallel vectors beyond 1.
  return aa > 0 && bb > 0 ? Math.max(-1, Math.min(1, dot / Math.sqrt(aa * bb))) : 0;
}
