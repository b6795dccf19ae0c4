/** What was not read, as one more part of the attention: the tail, and the candidates that were scored but dropped. */
import { checkCapacity, checkOption, checkOptions, type TailEstimate, takes } from '@ctkvr/core';
import { logAddExp } from './log-sum-exp.js';
import { checkPartial, type PartialAttention } from './partial-attention.js';

const size = takes.integer(1, 65536);

const inputChecks = {
  tail: takes.object,
  scores: takes.float32,
  candidates: takes.uint32,
  selected: takes.uint32,
  groupSize: size,
  headDim: size,
  out: takes.object,
  droppedLse: takes.optional(takes.float32),
};

/** Passes when a value has the buffers of a tail. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkTail(op: string, tail: TailEstimate): void {
  checkOption(op, 'tail', tail, takes.object);
  checkOption(op, 'tail.lse', tail.lse, takes.float32);
  checkOption(op, 'tail.value', tail.value, takes.float32);
}

/**
 * Writes the part that stands for everything not read: the tail's weight plus the exact weight of the dropped candidates, both with
 * the tail's mean value. Where the tail is empty (lse -Infinity) there is no mean value: the part is empty too, and the dropped
 * weight is left out of the output. `droppedLse`, when given, receives the log-sum-exp of the dropped scores alone, f32 [groupSize].
 * @param input.scores f32 [groupSize, n]. @param input.candidates u32 [n], ascending. @param input.selected u32, ascending, among them.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH.
 */
export function tailPartial(input: {
  readonly tail: TailEstimate;
  readonly scores: Float32Array;
  readonly candidates: Uint32Array;
  readonly selected: Uint32Array;
  readonly groupSize: number;
  readonly headDim: number;
  readonly out: PartialAttention;
  readonly droppedLse?: Float32Array;
}): void {
  const op = 'tailPartial';
  checkOptions(op, input, inputChecks);
  const { tail, scores, candidates, selected, groupSize, headDim, out, droppedLse } = input;
  checkTail(op, tail);
  checkPartial(op, 'out', out);
  const n = candidates.length;
  checkCapacity(scores.length, groupSize * n, { op, name: 'scores' });
  checkCapacity(tail.lse.length, groupSize, { op, name: 'tail.lse' });
  checkCapacity(tail.value.length, groupSize * headDim, { op, name: 'tail.value' });
  checkCapacity(out.lse.length, groupSize, { op, name: 'out.lse' });
  checkCapacity(out.output.length, groupSize * headDim, { op, name: 'out.output' });
  for (let head = 0; head < groupSize; head++) {
    const dropped = logSumExpDropped(scores, head * n, candidates, selected);
    if (droppedLse !== undefined) droppedLse[head] = dropped;
    const tailLse = tail.lse[head]!;
    const empty = tailLse === Number.NEGATIVE_INFINITY;
    out.lse[head] = empty ? tailLse : logAddExp(tailLse, dropped);
    for (let d = head * headDim; d < (head + 1) * headDim; d++) out.output[d] = empty ? 0 : tail.value[d]!;
  }
}

/** log-sum-exp of the scores (from `start` on) of candidates that are not selected; both lists ascend, so one walk finds them. */
function logSumExpDropped(scores: Float32Array, start: number, candidates: Uint32Array, selected: Uint32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  let total = 0;
  let next = 0;
  for (let i = 0; i < candidates.length; i++) {
    if (candidates[i] === selected[next]) {
      next++;
      continue;
    }
    const score = scores[start + i]!;
    if (score > max) {
      total *= Math.exp(max - score);
      max = score;
    }
    total += Math.exp(score - max);
  }
  return total > 0 ? max + Math.log(total) : Number.NEGATIVE_INFINITY;
}
