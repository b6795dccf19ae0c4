/**
 * Attention over part of the keys: its normalised output and the log-sum-exp of its scores, which is what it takes to merge it with the
 * attention over other keys without reading either again. Every part (sinks, window, selected tokens, a tail, another device) has this form.
 */
import { checkCapacity, checkInteger, checkOption, checkOptions, type OptionChecks, takes } from '@ctkvr/core';

/** Buffers are the caller's. An empty part has lse -Infinity and output zeros. */
export interface PartialAttention {
  /** f32 [groupSize, headDim]: softmax-weighted mean value. */
  readonly output: Float32Array;
  /** f32 [groupSize]: log of the sum of exp(score). */
  readonly lse: Float32Array;
}

const size = takes.integer(1, 65536);

/** Passes when a value has the buffers of a part; it may have more, as `AttentionOutput` has. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkPartial(op: string, name: string, part: PartialAttention): void {
  checkOption(op, name, part, takes.object);
  checkOption(op, `${name}.output`, part.output, takes.float32);
  checkOption(op, `${name}.lse`, part.lse, takes.float32);
}

/** Returns an empty part with fresh buffers. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function createPartialAttention(groupSize: number, headDim: number): PartialAttention {
  checkOption('createPartialAttention', 'groupSize', groupSize, size);
  checkOption('createPartialAttention', 'headDim', headDim, size);
  return {
    output: new Float32Array(groupSize * headDim),
    lse: new Float32Array(groupSize).fill(Number.NEGATIVE_INFINITY),
  };
}

/** What `mergePartials` merges. */
export interface MergeInput {
  readonly partials: readonly PartialAttention[];
  /** Query heads of one KV head. */
  readonly groupSize: number;
  readonly headDim: number;
  /** May be one of `partials`. */
  readonly out: PartialAttention;
}

const mergeChecks: OptionChecks<MergeInput> = {
  partials: takes.list,
  groupSize: takes.anything,
  headDim: size,
  out: takes.object,
};

/**
 * Writes the attention over the union of disjoint parts to `out`, which may be one of them. Any order and grouping gives the same
 * result up to rounding. O(parts * groupSize * headDim).
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH when a buffer is too short.
 */
export function mergePartials(input: MergeInput): void {
  const op = 'mergePartials';
  checkOptions(op, input, mergeChecks);
  const { partials, groupSize, headDim, out } = input;
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  for (const part of [...partials, out]) {
    checkPartial(op, part === out ? 'out' : 'partials', part);
    checkCapacity(part.output.length, groupSize * headDim, { op, name: 'output' });
    checkCapacity(part.lse.length, groupSize, { op, name: 'lse' });
  }
  for (let head = 0; head < groupSize; head++) {
    let max = Number.NEGATIVE_INFINITY;
    for (const part of partials) max = Math.max(max, part.lse[head]!);
    let total = 0;
    if (max > Number.NEGATIVE_INFINITY) for (const part of partials) total += Math.exp(part.lse[head]! - max);
    for (let d = head * headDim; d < (head + 1) * headDim; d++) {
      let sum = 0;
      for (const part of partials) {
        if (part.lse[head]! > Number.NEGATIVE_INFINITY) sum += Math.exp(part.lse[head]! - max) * part.output[d]!;
      }
      out.output[d] = total > 0 ? sum / total : 0;
    }
    out.lse[head] = total > 0 ? max + Math.log(total) : Number.NEGATIVE_INFINITY;
  }
}
