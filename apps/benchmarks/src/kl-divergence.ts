/**
 * Returns KL(p || q) in nats of two next-token distributions given as logits: what using q in place of p loses. f64 throughout.
 * @param p f32 [vocabSize], the reference. @param q f32 [vocabSize].
 * @throws {RangeError} when the lengths differ.
 */
export function klDivergence(p: Float32Array, q: Float32Array): number {
  if (p.length !== q.length) throw new RangeError(`two vocabularies: ${p.length} and ${q.length} logits`);
  const lseP = logSumExp(p);
  const lseQ = logSumExp(q);
  let sum = 0;
  for (let token = 0; token < p.length; token++) {
    const logP = p[token]! - lseP;
    sum += Math.exp(logP) * (logP - (q[token]! - lseQ));
  }
  return Math.max(0, sum); // rounding can leave a tiny negative
}

/** Returns the smallest id of the largest logit. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token]! > logits[best]!) best = token;
  return best;
}

function logSumExp(logits: Float32Array): number {
  const max = logits[argmax(logits)]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  return max + Math.log(sum);
}
