/** Which candidates' values are read: the heaviest, by number (top-k) or by the weight they cover (top-p). */
import { CtkvrError, checkCapacity, checkInteger, checkOptions, takes, UNBOUNDED } from '@ctkvr/core';

const inputChecks = {
  weights: takes.float64,
  candidates: takes.uint32,
  maxSelected: takes.anything,
  topP: takes.anything,
  out: takes.uint32,
};

/**
 * Writes the selected positions, ascending, and returns how many. Ties go to the smaller position.
 * With `topP` below 1: the smallest set of heaviest candidates whose cumulative weight reaches topP of the total, at most maxSelected.
 * @param input.weights f64, weights of the candidates in their order, from `groupWeights`; not negative.
 * @param input.candidates u32 [n], ascending positions. @param input.maxSelected 0 = all.
 * @param input.topP in (0, 1]; default 1 = off. @param input.out u32, length >= min(n, maxSelected or n).
 * Cost: O(n log n). @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_INVALID_OPTION.
 */
export function selectCandidates(input: {
  readonly weights: Float64Array;
  readonly candidates: Uint32Array;
  readonly maxSelected: number;
  readonly topP?: number;
  readonly out: Uint32Array;
}): number {
  const op = 'selectCandidates';
  checkOptions(op, input, inputChecks);
  const { weights, candidates, maxSelected, topP = 1, out } = input;
  checkInteger(maxSelected, { op, name: 'maxSelected', min: 0, max: UNBOUNDED });
  checkTopP(topP, op);
  const n = candidates.length;
  checkCapacity(weights.length, n, { op, name: 'weights' });
  const cap = maxSelected === 0 ? n : Math.min(n, maxSelected);
  if (cap === 0) return 0;

  // The threshold weight: everything above it is in, and the first of those equal to it until the number is reached.
  const descending = weights.slice(0, n).sort().reverse();
  const count = topP === 1 ? cap : Math.min(cap, countReaching(descending, topP));
  checkCapacity(out.length, count, { op, name: 'out' });
  const threshold = descending[count - 1]!;
  let above = 0;
  while (descending[above]! > threshold) above++;
  let equalsLeft = count - above;
  let written = 0;
  for (let i = 0; i < n && written < count; i++) {
    const take = weights[i]! > threshold || (weights[i] === threshold && equalsLeft-- > 0);
    if (take) out[written++] = candidates[i]!;
  }
  return written;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION unless 0 < topP <= 1. */
export function checkTopP(topP: number, op: string): void {
  if (topP > 0 && topP <= 1) return;
  throw new CtkvrError('CTKVR_INVALID_OPTION', `${op}: topP must be above 0 and at most 1, got ${topP}`, {
    fields: { op, option: 'topP', actual: String(topP) },
  });
}

/** Smallest number of the heaviest weights whose sum reaches `share` of all. */
function countReaching(descending: Float64Array, share: number): number {
  let total = 0;
  for (const weight of descending) total += weight;
  let covered = 0;
  for (let i = 0; i < descending.length; i++) {
    covered += descending[i]!;
    if (covered >= share * total) return i + 1;
  }
  return descending.length;
}
