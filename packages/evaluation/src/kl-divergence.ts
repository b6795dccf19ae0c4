/** Distance between two next-token distributions, from raw logits. */

/** log of the sum of exp over all logits, f64, shifted by the maximum. */
export function logSumExp(logits: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const value of logits) if (value > max) max = value;
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - max);
  return max + Math.log(sum);
}

/**
 * Returns KL(reference || other) in nats: sum over tokens of p (log p - log q), accumulated in f64; never negative.
 * @param reference @param other f32 [vocabSize], raw logits.
 */
export function klDivergence(reference: Float32Array, other: Float32Array): number {
  if (reference.length !== other.length)
    throw new RangeError(`vocabularies differ: ${reference.length} and ${other.length}`);
  const logZp = logSumExp(reference);
  const logZq = logSumExp(other);
  let sum = 0;
  for (let i = 0; i < reference.length; i++) {
    const logP = reference[i]! - logZp;
    sum += Math.exp(logP) * (logP - (other[i]! - logZq));
  }
  // Rounding can leave a few 1e-17 below zero for equal distributions.
  return Math.max(0, sum);
}

/** Token of the highest logit; the smaller id wins a tie. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}
