/** The true attention mass of some positions, from every key: what an estimate is compared with. */
import { checkCapacity, checkInteger, checkLength, checkOptions, takes } from '@ctkvr/core';
import { type KeyLayout, keyLayoutChecks } from './score-candidates.js';

const inputChecks = { ...keyLayoutChecks, query: takes.float32, positions: takes.uint32, out: takes.float32 };

/**
 * Writes, per query head, the share of the softmax weight over all keys that falls on `positions`, 0..1. One online pass.
 * Cost: numTokens * groupSize * headDim multiplications; allocates nothing.
 * @param input.query f32 [groupSize, headDim], rotated. @param input.positions u32 [n], ascending, no repeats.
 * @param input.out f32, length >= groupSize.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH; CTKVR_INVALID_OPTION for a position outside the keys.
 */
export function measuredMass(
  input: KeyLayout & { readonly query: Float32Array; readonly positions: Uint32Array; readonly out: Float32Array },
): void {
  const op = 'measuredMass';
  checkOptions(op, input, inputChecks);
  const { query, keys, positions, headDim, groupSize, out } = input;
  const shape = `[groupSize, headDim] = [${groupSize}, ${headDim}]`;
  checkLength(query.length, groupSize * headDim, { op, name: 'query', shape });
  checkCapacity(out.length, groupSize, { op, name: 'out' });
  const numTokens = keys.length / headDim;
  for (const position of positions) {
    if (position >= numTokens) checkInteger(position, { op, name: 'positions', min: 0, max: numTokens - 1 });
  }
  const scale = 1 / Math.sqrt(headDim);
  for (let head = 0; head < groupSize; head++) {
    let max = Number.NEGATIVE_INFINITY;
    let total = 0;
    let covered = 0;
    let next = 0;
    for (let position = 0; position < numTokens; position++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += query[head * headDim + d]! * keys[position * headDim + d]!;
      const score = dot * scale;
      if (score > max) {
        const shrink = Math.exp(max - score);
        total *= shrink;
        covered *= shrink;
        max = score;
      }
      const weight = Math.exp(score - max);
      total += weight;
      if (positions[next] === position) {
        covered += weight;
        next++;
      }
    }
    out[head] = total > 0 ? covered / total : 0;
  }
}
