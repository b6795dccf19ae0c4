/** Measures of fidelity: how much of what dense attention sees a selection keeps, and how far two next-token distributions are apart. */

/** Returns the share of `truth` that is in `found`, 0..1; 1 for an empty truth. @param truth ids of the true top k. */
export function recallAtK(found: Iterable<number>, truth: Iterable<number>): number {
  const have = new Set(found);
  const want = [...truth];
  return want.length === 0 ? 1 : want.filter((id) => have.has(id)).length / want.length;
}

/**
 * Returns the softmax weight of the given positions among all keys, averaged over the query heads, 0..1.
 * @param input.query f32 [groupSize, headDim]. @param input.keys f32 [numTokens, headDim]. @param input.positions each at most once.
 */
export function attentionMass(input: {
  readonly query: Float32Array;
  readonly keys: Float32Array;
  readonly headDim: number;
  readonly positions: Iterable<number>;
}): number {
  const { query, keys, headDim } = input;
  const positions = [...input.positions];
  const groupSize = query.length / headDim;
  const scores = new Float64Array(keys.length / headDim);
  let mass = 0;
  for (let head = 0; head < groupSize; head++) {
    for (let j = 0; j < scores.length; j++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += query[head * headDim + d]! * keys[j * headDim + d]!;
      scores[j] = dot / Math.sqrt(headDim);
    }
    const lse = logSumExp(scores);
    for (const position of positions) mass += Math.exp(scores[position]! - lse);
  }
  return mass / groupSize;
}

/**
 * Returns KL(P || Q) in nats of the distributions that two rows of logits stand for, over the whole vocabulary; never negative beyond rounding.
 * @param p logits of the distribution taken as true (dense). @param q logits of the other, same length.
 */
export function klDivergence(p: Float32Array, q: Float32Array): number {
  if (p.length !== q.length)
    throw new RangeError(`klDivergence: ${p.length} and ${q.length} logits; both rows must be one vocabulary`);
  const lseP = logSumExp(p);
  const lseQ = logSumExp(q);
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const logP = p[i]! - lseP;
    const weight = Math.exp(logP);
    if (weight > 0) sum += weight * (logP - (q[i]! - lseQ));
  }
  return sum;
}

function logSumExp(values: Float32Array | Float64Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const x of values) max = Math.max(max, x);
  let sum = 0;
  for (const x of values) sum += Math.exp(x - max);
  return max + Math.log(sum);
}
