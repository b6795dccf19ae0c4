/** Picks the positions of highest score. The tie rule of the whole project is defined here: the smaller position wins. */

/**
 * Returns the indices of the `count` highest scores, ascending; among equal scores the smaller indices are taken.
 * Sorts a copy of the scores to find the threshold: O(n log n), no comparator.
 * @param scores f64 [n], no NaN. @param count 0..n.
 */
export function highestScores(scores: Float64Array, count: number): Uint32Array {
  const picked = new Uint32Array(Math.min(count, scores.length));
  if (picked.length === 0) return picked;
  const threshold = scores.slice().sort()[scores.length - picked.length]!;
  let above = 0;
  for (const score of scores) if (score > threshold) above++;
  let equalsLeft = picked.length - above;
  let n = 0;
  for (let i = 0; i < scores.length && n < picked.length; i++) {
    const take = scores[i]! > threshold || (scores[i] === threshold && equalsLeft-- > 0);
    if (take) picked[n++] = i;
  }
  return picked;
}
