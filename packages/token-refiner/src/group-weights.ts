/** One weight per candidate for a whole group of query heads, so that heads with large scores do not decide alone. */
import { checkCapacity, checkOptions, takes, UNBOUNDED } from '@ctkvr/core';
import { logSumExp } from './log-sum-exp.js';

const inputChecks = {
  scores: takes.float32,
  groupSize: takes.integer(1, 65536),
  numCandidates: takes.integer(0, UNBOUNDED),
  out: takes.float64,
};

/**
 * Writes, for every candidate, the sum over query heads of its softmax weight among the candidates. The weights sum to groupSize.
 * @param input.scores f32 [groupSize, numCandidates], from `scoreCandidates`.
 * @param input.out f64, length >= numCandidates; f64 so that only true ties are ties.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH.
 */
export function groupWeights(input: {
  readonly scores: Float32Array;
  readonly groupSize: number;
  readonly numCandidates: number;
  readonly out: Float64Array;
}): void {
  const op = 'groupWeights';
  checkOptions(op, input, inputChecks);
  const { scores, groupSize, numCandidates, out } = input;
  checkCapacity(scores.length, groupSize * numCandidates, { op, name: 'scores' });
  checkCapacity(out.length, numCandidates, { op, name: 'out' });
  out.fill(0, 0, numCandidates);
  for (let head = 0; head < groupSize; head++) {
    const start = head * numCandidates;
    const lse = logSumExp(scores, start, start + numCandidates);
    for (let i = 0; i < numCandidates; i++) out[i]! += Math.exp(scores[start + i]! - lse);
  }
}
