/** Exact scores of candidate keys: the "token" half of centroid-then-token. */
import { checkCapacity, checkInteger, checkLength, checkOptions, type OptionChecks, takes } from '@ctkvr/core';

/** Where keys lie and how heads share them. */
export interface KeyLayout {
  /** f32 [numTokens, headDim], rotated. */
  readonly keys: Float32Array;
  readonly headDim: number;
  /** Query heads per KV head. */
  readonly groupSize: number;
}

const size = takes.integer(1, 65536);

/** The checks of a layout, for tables of whoever takes one. */
export const keyLayoutChecks: OptionChecks<KeyLayout> = { keys: takes.float32, headDim: size, groupSize: size };

const inputChecks = { ...keyLayoutChecks, query: takes.float32, candidates: takes.uint32, out: takes.float32 };

/**
 * Writes raw scores q.k / sqrt(headDim) (not weights) of every candidate for every query head.
 * Cost: candidates.length * groupSize * headDim multiplications; allocates nothing.
 * @param input.query f32 [groupSize, headDim], rotated at its own position.
 * @param input.candidates positions, u32 [n]; pass a subarray when the buffer is longer.
 * @param input.out f32, length >= groupSize * n, written as [groupSize, n].
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH; CTKVR_INVALID_OPTION for a position outside the keys.
 */
export function scoreCandidates(
  input: KeyLayout & { readonly query: Float32Array; readonly candidates: Uint32Array; readonly out: Float32Array },
): void {
  const op = 'scoreCandidates';
  checkOptions(op, input, inputChecks);
  const { query, keys, candidates, headDim, groupSize, out } = input;
  const n = candidates.length;
  checkLength(query.length, groupSize * headDim, {
    op,
    name: 'query',
    shape: `[groupSize, headDim] = [${groupSize}, ${headDim}]`,
  });
  checkCapacity(out.length, groupSize * n, { op, name: 'out' });
  const scale = 1 / Math.sqrt(headDim);
  const last = keys.length / headDim - 1;
  for (let i = 0; i < n; i++) {
    const position = candidates[i]!;
    if (position > last) checkInteger(position, { op, name: 'candidates', min: 0, max: last });
    for (let head = 0; head < groupSize; head++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += query[head * headDim + d]! * keys[position * headDim + d]!;
      out[head * n + i] = dot * scale;
    }
  }
}
