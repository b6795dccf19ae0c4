/** Exact attention over a list of positions. */
import { checkCapacity, checkInteger, checkLength, checkOptions, takes } from '@ctkvr/core';
import { checkPartial, type PartialAttention } from './partial-attention.js';
import { type KeyLayout, keyLayoutChecks } from './score-candidates.js';

const inputChecks = {
  ...keyLayoutChecks,
  query: takes.float32,
  values: takes.float32,
  positions: takes.uint32,
  out: takes.object,
};

/**
 * Writes softmax attention of each query head over the given positions. No positions: lse -Infinity, zeros.
 * One online pass (a running maximum), so it needs no scratch. Cost: positions.length * groupSize * 2 * headDim multiplications.
 * @param input.query f32 [groupSize, headDim]. @param input.values f32 [numTokens, headDim].
 * @param input.positions u32 [n], each once.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH; CTKVR_INVALID_OPTION for a position outside the keys.
 */
export function attendPositions(
  input: KeyLayout & {
    readonly query: Float32Array;
    readonly values: Float32Array;
    readonly positions: Uint32Array;
    readonly out: PartialAttention;
  },
): void {
  const op = 'attendPositions';
  checkOptions(op, input, inputChecks);
  const { query, keys, values, positions, headDim, groupSize, out } = input;
  checkPartial(op, 'out', out);
  const shape = `[groupSize, headDim] = [${groupSize}, ${headDim}]`;
  checkLength(query.length, groupSize * headDim, { op, name: 'query', shape });
  checkCapacity(out.output.length, groupSize * headDim, { op, name: 'out.output' });
  checkCapacity(out.lse.length, groupSize, { op, name: 'out.lse' });
  const last = Math.min(keys.length, values.length) / headDim - 1;
  const scale = 1 / Math.sqrt(headDim);
  const sum = new Float64Array(headDim);
  for (let head = 0; head < groupSize; head++) {
    let max = Number.NEGATIVE_INFINITY;
    let total = 0;
    sum.fill(0);
    for (const position of positions) {
      if (position > last) checkInteger(position, { op, name: 'positions', min: 0, max: last });
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += query[head * headDim + d]! * keys[position * headDim + d]!;
      const score = dot * scale;
      if (score > max) {
        const shrink = Math.exp(max - score);
        total *= shrink;
        for (let d = 0; d < headDim; d++) sum[d]! *= shrink;
        max = score;
      }
      const weight = Math.exp(score - max);
      total += weight;
      for (let d = 0; d < headDim; d++) sum[d]! += weight * values[position * headDim + d]!;
    }
    for (let d = 0; d < headDim; d++) out.output[head * headDim + d] = total > 0 ? sum[d]! / total : 0;
    out.lse[head] = total > 0 ? max + Math.log(total) : Number.NEGATIVE_INFINITY;
  }
}
