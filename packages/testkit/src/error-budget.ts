/**
 * How far an f32 implementation may be from the f64 definition, derived once instead of guessed per test. Notation of Higham, Accuracy and
 * Stability of Numerical Algorithms, 2nd ed., chapter 3: u = 2^-24 is the rounding unit of f32, gamma(n) = n u / (1 - n u), and a sum of n
 * products in any order of addition (so also by SIMD lanes or blocks) is within gamma(n) of the sum of their magnitudes (eq. 3.5).
 *
 * | quantity | bound |
 * |---|---|
 * | score = q.k / sqrt(d) | gamma(d + 2) |q| |k| / sqrt(d) (Cauchy-Schwarz; 2 more roundings for the scale and its product) |
 * | lse over n keys | score + gamma(n) + 4u + 2u max(1, |lse|): an error e in every score moves lse by at most e; the sum's relative error is an absolute one of its log |
 * | weight over n keys, relative | 2 (score + gamma(n) + 4u), from exp(x + e) = exp(x)(1 + e) in numerator and denominator |
 * | output over n keys | weight x 2 x largest |value| + gamma(n) x largest |value| |
 *
 * exp is allowed 4 units in the last place (vectorised polynomials). Inputs are exact in both (f16-rounded where one side stores f16).
 */

const unit = 2 ** -24;
/** Units in the last place allowed to a vectorised exp. */
const expUlps = 4;

/** gamma(n) of f32. */
export function gamma(n: number): number {
  return (n * unit) / (1 - n * unit);
}

export interface HeadScale {
  readonly headDim: number;
  /** Keys in the sums. */
  readonly numKeys: number;
  /** Largest length of a query head. */
  readonly queryLength: number;
  /** Largest length of a key. */
  readonly keyLength: number;
  /** Largest magnitude of a value component. */
  readonly valueMagnitude: number;
}

export interface ErrorBudget {
  /** Absolute, of one score. */
  readonly score: number;
  /** Absolute, of a log-sum-exp of magnitude up to `scoreMagnitude` + log numKeys. */
  readonly lse: number;
  /** Relative, of one softmax weight, or of a sum of such over the group. */
  readonly weight: number;
  /** Absolute, of one component of an attention output. */
  readonly output: number;
}

/** Returns the budgets of one head's data. */
export function errorBudget({ headDim, numKeys, queryLength, keyLength, valueMagnitude }: HeadScale): ErrorBudget {
  const scoreMagnitude = (queryLength * keyLength) / Math.sqrt(headDim);
  const score = gamma(headDim + 2) * scoreMagnitude;
  const sum = gamma(numKeys) + expUlps * unit;
  const weight = 2 * (score + sum);
  return {
    score,
    lse: score + sum + 2 * unit * Math.max(1, scoreMagnitude + Math.log(Math.max(1, numKeys))),
    weight,
    output: (2 * weight + gamma(numKeys) + 2 * unit) * valueMagnitude,
  };
}

/** Returns the sizes of the largest vectors of a data set. */
export function headScale(data: {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  /** All query vectors in play, [any, headDim]. */
  readonly queries: Float32Array;
  readonly headDim: number;
}): HeadScale {
  const { keys, values, queries, headDim } = data;
  return {
    headDim,
    numKeys: keys.length / headDim,
    queryLength: longest(queries, headDim),
    keyLength: longest(keys, headDim),
    valueMagnitude: values.reduce((max, x) => Math.max(max, Math.abs(x)), 0),
  };
}

function longest(vectors: Float32Array, headDim: number): number {
  let max = 0;
  for (let start = 0; start < vectors.length; start += headDim) {
    let squares = 0;
    for (let d = start; d < start + headDim; d++) squares += vectors[d]! ** 2;
    max = Math.max(max, Math.sqrt(squares));
  }
  return max;
}
