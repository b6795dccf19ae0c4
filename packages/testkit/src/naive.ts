/**
 * The definitions once more, written for obviousness in f64 with whole matrices and full sorts: the oracle that implementations are judged
 * against. Shares no code with them. Every function takes plain arrays of numbers.
 */

/** Ids of the `count` highest scores, best first; ties to the smaller id. */
export function rankedIds(scores: readonly number[], count: number): number[] {
  return scores
    .map((score, id) => ({ score, id }))
    .sort((a, b) => b.score - a.score || a.id - b.id)
    .slice(0, count)
    .map(({ id }) => id);
}

/** q.k / sqrt(headDim) of one query head against every row of `keys`. */
export function naiveScores(query: readonly number[], keys: readonly (readonly number[])[]): number[] {
  return keys.map((key) => dot(query, key) / Math.sqrt(query.length));
}

/** log of the sum of exp; -Infinity for none. */
export function naiveLse(scores: readonly number[]): number {
  if (scores.length === 0) return Number.NEGATIVE_INFINITY;
  const max = Math.max(...scores);
  if (max === Number.NEGATIVE_INFINITY) return max;
  return max + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - max), 0));
}

/** exp(score - lse). */
export function naiveSoftmax(scores: readonly number[]): number[] {
  const lse = naiveLse(scores);
  return scores.map((score) => Math.exp(score - lse));
}

/** Sum over the group's heads of softmax over the keys: what lists and selections rank by. */
export function naiveGroupWeights(
  group: readonly (readonly number[])[],
  keys: readonly (readonly number[])[],
): number[] {
  const perHead = group.map((query) => naiveSoftmax(naiveScores(query, keys)));
  return keys.map((_, j) => perHead.reduce((sum, weights) => sum + weights[j]!, 0));
}

/** Softmax-weighted mean of rows and the log-sum-exp of the scores; zeros and -Infinity for no rows. */
export function naiveAttention(
  scores: readonly number[],
  rows: readonly (readonly number[])[],
  headDim: number,
): { mean: number[]; lse: number } {
  const weights = naiveSoftmax(scores);
  const mean = Array.from({ length: headDim }, (_, d) => rows.reduce((sum, row, j) => sum + weights[j]! * row[d]!, 0));
  return { mean, lse: naiveLse(scores) };
}

/** x / |x|; zeros stay zeros. */
function naiveUnit(vector: readonly number[]): number[] {
  const length = Math.sqrt(dot(vector, vector));
  return vector.map((x) => (length > 0 ? x / length : 0));
}

/** Normalised sum of the unit vectors of a group. */
export function naivePooled(group: readonly (readonly number[])[]): number[] {
  const units = group.map(naiveUnit);
  return naiveUnit(units[0]!.map((_, d) => units.reduce((sum, unit) => sum + unit[d]!, 0)));
}

/** What is left of a vector after 8-bit storage: round(x / (maxAbs / 127)), halves away from zero, times maxAbs / 127. */
export function naiveInt8(vector: readonly number[]): number[] {
  const step = Math.max(...vector.map(Math.abs)) / 127;
  return vector.map((x) => (step > 0 ? Math.sign(x) * Math.floor(Math.abs(x) / step + 0.5) * step : 0));
}

export function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0);
}

/** Cuts a flat buffer into rows. */
export function rowsOf(values: Float32Array, rowLength: number): number[][] {
  return Array.from({ length: values.length / rowLength }, (_, row) =>
    Array.from(values.subarray(row * rowLength, (row + 1) * rowLength)),
  );
}

/** Cuts a flat [n, groupSize, headDim] buffer into groups of head vectors. */
export function groupsOf(values: Float32Array, groupSize: number, headDim: number): number[][][] {
  return rowsOf(values, groupSize * headDim).map((row) =>
    Array.from({ length: groupSize }, (_, head) => row.slice(head * headDim, (head + 1) * headDim)),
  );
}
