/** A tail's clusters weighed for one query, without the positions that are read exactly: weights, heaviest clusters, and the estimate. */
import { highestScores } from './highest-scores.js';
import type { TailSegment } from './tail-segment.js';

/** One query head's weights, over e^max. */
interface HeadWeights {
  readonly max: number;
  /** f64 [numClusters]: of what is left. */
  readonly left: Float64Array;
  /** Of all positions, taken or not. */
  readonly total: number;
}

export class WeighedTail {
  readonly #segments: readonly TailSegment[];
  readonly #corrections: Float32Array;
  readonly #headDim: number;
  readonly #heads: readonly HeadWeights[];

  constructor(input: {
    readonly segments: readonly TailSegment[];
    /** f32 [groupSize]. */
    readonly corrections: Float32Array;
    /** f32 [groupSize, headDim]. */
    readonly query: Float32Array;
    /** Ascending positions of the segments. */
    readonly taken: Uint32Array;
  }) {
    const { segments, corrections, query, taken } = input;
    this.#segments = segments;
    this.#corrections = corrections;
    this.#headDim = query.length / corrections.length;
    const counts = segments.flatMap((segment) => Array.from(segment.counts));
    const left = countLeft(segments, taken);
    this.#heads = Array.from(corrections, (_, head) => {
      const scores = this.#scores(query.subarray(head * this.#headDim, (head + 1) * this.#headDim));
      const max = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      const weights = scores.map((score) => Math.exp(score - max));
      const total = weights.reduce((sum, weight, c) => sum + weight * counts[c]!, 0);
      return { max, left: weights.map((weight, c) => weight * left[c]!), total };
    });
  }

  /**
   * Takes the `count` clusters out of which most is left, by the sum over heads of their shares of all weight (ties: the smaller id), and
   * names all their positions to `each`, also those taken before.
   */
  takeHeaviest(count: number, each: (position: number) => void): void {
    const shares = new Float64Array(this.#heads[0]!.left.length);
    for (const { left, total } of this.#heads) {
      for (let c = 0; c < shares.length; c++) shares[c]! += left[c]! / total;
    }
    const heaviest = new Set(highestScores(shares, count));
    for (const { left } of this.#heads) for (const c of heaviest) left[c] = 0;
    let first = 0;
    for (const { start, clusterOf, numClusters } of this.#segments) {
      clusterOf.forEach((cluster, i) => {
        if (heaviest.has(first + cluster)) each(start + i);
      });
      first += numClusters;
    }
  }

  /** Writes log-sum-exp f32 [groupSize] and mean value f32 [groupSize, headDim] of what is left; -Infinity and zeros for nothing. */
  rest({ lse, value }: { readonly lse: Float32Array; readonly value: Float32Array }): void {
    this.#heads.forEach(({ max, left }, head) => {
      const sum = left.reduce((a, b) => a + b, 0);
      lse[head] = sum > 0 ? max + Math.log(sum) + this.#corrections[head]! : Number.NEGATIVE_INFINITY;
      const mean = sum > 0 ? this.#meanValue(left, sum) : new Float64Array(this.#headDim);
      value.set(mean, head * this.#headDim);
    });
  }

  /** Scores q.k / sqrt(headDim) of all mean keys. */
  #scores(query: Float32Array): Float64Array {
    const scores: number[] = [];
    for (const { keys } of this.#segments) {
      for (let at = 0; at < keys.length; at += query.length) {
        let sum = 0;
        for (let d = 0; d < query.length; d++) sum += query[d]! * keys[at + d]!;
        scores.push(sum / Math.sqrt(query.length));
      }
    }
    return Float64Array.from(scores);
  }

  #meanValue(weights: Float64Array, sum: number): Float64Array {
    const mean = new Float64Array(this.#headDim);
    let first = 0;
    for (const { values, numClusters } of this.#segments) {
      for (let c = 0; c < numClusters; c++) {
        const weight = weights[first + c]! / sum;
        for (let d = 0; d < mean.length; d++) mean[d]! += weight * values[c * mean.length + d]!;
      }
      first += numClusters;
    }
    return mean;
  }
}

/** How many positions each cluster has without `taken`. */
function countLeft(segments: readonly TailSegment[], taken: Uint32Array): number[] {
  const all = segments.map(({ counts }) => Array.from(counts));
  let s = 0;
  for (const position of taken) {
    while (position >= segments[s]!.end) s++;
    const { start, clusterOf } = segments[s]!;
    all[s]![clusterOf[position - start]!]!--;
  }
  return all.flat();
}
