/**
 * List and tail of one centroid (docs: design of CTkvr, section 2.1). Streams over the keys twice; memory is one row of scores per
 * query head, reused from centroid to centroid, never centroids x keys.
 */
import { postingListLength } from '@ctkvr/core';
import type { ResolvedBuildInput } from './build-input.js';
import { highestScores } from './highest-scores.js';

/** What one centroid's query found. Tail vectors are not yet quantised. */
export interface BuiltCentroid {
  /** u32, ascending positions. */
  readonly list: Uint32Array;
  /** f64 [groupSize]; -Infinity when the list covers the region, or no tails are asked for. */
  readonly lseTail: Float64Array;
  /** f32 [groupSize, headDim]; zeros where lseTail is -Infinity. */
  readonly valueTail: Float32Array;
  /** f32 [groupSize, headDim]; zeros where lseTail is -Infinity. */
  readonly keyTail: Float32Array;
}

/** Returns a function that builds centroid after centroid over the same scratch memory. */
export function centroidBuilder(input: ResolvedBuildInput): (centroid: number) => BuiltCentroid {
  const { headDim, groupSize, region, options, keys, values } = input;
  const numKeys = region.end - region.start;
  const scores = Array.from({ length: groupSize }, () => new Float64Array(numKeys));
  const ranking = new Float64Array(numKeys);
  const outside = new Uint8Array(numKeys);

  return (centroid) => {
    // score[j] = sum over heads of softmax_j(scale q_h.k_j), over the whole region.
    ranking.fill(0);
    for (let head = 0; head < groupSize; head++) {
      const row = scores[head]!;
      scoreKeys(input, { queryRow: centroid * groupSize + head, firstPosition: region.start, out: row });
      const lse = logSumExp(row);
      for (let j = 0; j < numKeys; j++) ranking[j]! += Math.exp(row[j]! - lse);
    }
    const picked = highestScores(ranking, postingListLength(options, numKeys));
    outside.fill(1);
    for (const j of picked) outside[j] = 0;

    const lseTail = new Float64Array(groupSize).fill(Number.NEGATIVE_INFINITY);
    const valueTail = new Float32Array(groupSize * headDim);
    const keyTail = new Float32Array(groupSize * headDim);
    if (options.tail && picked.length < numKeys) {
      for (let head = 0; head < groupSize; head++) {
        const row = scores[head]!;
        const lse = logSumExp(row, outside);
        lseTail[head] = lse;
        const at = { row, outside, lse, headDim, firstPosition: region.start };
        valueTail.set(weightedMean({ ...at, vectors: values }), head * headDim);
        keyTail.set(weightedMean({ ...at, vectors: keys }), head * headDim);
      }
    }
    return { list: picked.map((j) => j + region.start), lseTail, valueTail, keyTail };
  };
}

/** Writes scale q.k of the keys from `firstPosition` on; `queryRow` counts (centroid, head) pairs. */
export function scoreKeys(
  input: ResolvedBuildInput,
  { queryRow, firstPosition, out }: { queryRow: number; firstPosition: number; out: Float64Array },
): void {
  const { keys, queries, headDim, scale } = input;
  const q = queryRow * headDim;
  for (let j = 0; j < out.length; j++) {
    const k = (firstPosition + j) * headDim;
    let dot = 0;
    for (let d = 0; d < headDim; d++) dot += queries[q + d]! * keys[k + d]!;
    out[j] = dot * scale;
  }
}

/** log sum exp of the scores (of those with mask 1, when there is a mask); -Infinity for none. */
function logSumExp(scores: Float64Array, mask?: Uint8Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < scores.length; j++) if (mask?.[j] !== 0) max = Math.max(max, scores[j]!);
  if (max === Number.NEGATIVE_INFINITY) return max;
  let sum = 0;
  for (let j = 0; j < scores.length; j++) if (mask?.[j] !== 0) sum += Math.exp(scores[j]! - max);
  return max + Math.log(sum);
}

function weightedMean(of: {
  readonly row: Float64Array;
  readonly outside: Uint8Array;
  readonly lse: number;
  readonly vectors: Float32Array;
  readonly headDim: number;
  readonly firstPosition: number;
}): Float64Array {
  const mean = new Float64Array(of.headDim);
  for (let j = 0; j < of.row.length; j++) {
    if (of.outside[j] === 0) continue;
    const weight = Math.exp(of.row[j]! - of.lse);
    const start = (of.firstPosition + j) * of.headDim;
    for (let d = 0; d < of.headDim; d++) mean[d]! += weight * of.vectors[start + d]!;
  }
  return mean;
}
