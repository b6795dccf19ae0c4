/** A line through the points of `overlapBySimilarity`: the mean overlap of pairs of about the same similarity. */
import { checkInteger, checkLength, checkOptions, takes } from '@ctkvr/core';
import { checkNumber } from './check-number.js';

export interface OverlapCurve {
  /** Middle of each bin, f64 [numBins], ascending. */
  readonly similarity: Float64Array;
  /** Mean overlap of the pairs in the bin, f64 [numBins]; NaN where there is none. */
  readonly overlap: Float64Array;
  /** Pairs in the bin, [numBins]. */
  readonly count: Uint32Array;
}

const inputChecks = {
  similarity: takes.float64,
  overlap: takes.float64,
  headSimilarity: takes.anything,
  headOverlap: takes.anything,
  numBins: takes.anything,
  from: takes.anything,
  to: takes.anything,
};

/**
 * Returns the mean overlap in bins of equal width from `from` to `to`, each with its lower bound and the last also with its upper; pairs
 * outside are left out. Takes the group's points or the heads'. O(points).
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_INVALID_OPTION.
 */
export function overlapCurve(input: {
  /** f64 [numPoints], -1..1. */
  readonly similarity: Float64Array;
  /** f64 [numPoints], 0..1. */
  readonly overlap: Float64Array;
  /** Not read: all that `overlapBySimilarity` gives may be passed on as it is. */
  readonly headSimilarity?: Float64Array;
  readonly headOverlap?: Float64Array;
  /** Default 20. */
  readonly numBins?: number;
  /** Similarity where the first bin begins. Default -1. */
  readonly from?: number;
  /** Similarity where the last bin ends. Default 1. */
  readonly to?: number;
}): OverlapCurve {
  const op = 'overlapCurve';
  checkOptions(op, input, inputChecks);
  const { similarity, overlap, numBins = 20, from = -1, to = 1 } = input;
  checkInteger(numBins, { op, name: 'numBins', min: 1, max: 65536 });
  checkNumber(from, { op, name: 'from', atLeast: -1 });
  checkNumber(to, { op, name: 'to', above: from });
  checkLength(overlap.length, similarity.length, {
    op,
    name: 'overlap',
    shape: `[numPoints] = [${similarity.length}]`,
  });
  const width = (to - from) / numBins;
  const sum = new Float64Array(numBins);
  const count = new Uint32Array(numBins);
  similarity.forEach((at, point) => {
    if (!(at >= from && at <= to)) return;
    const bin = Math.min(numBins - 1, Math.floor((at - from) / width));
    sum[bin]! += overlap[point]!;
    count[bin]!++;
  });
  return {
    similarity: sum.map((_, bin) => from + (bin + 0.5) * width),
    overlap: sum.map((total, bin) => total / count[bin]!),
    count,
  };
}
