/**
 * How far rotary embedding and the statistics of rotated queries may be from their definitions. v = 2^-53 is the rounding unit of f64,
 * u = 2^-24 that of f32; ln, exp, pow, sin and cos are allowed 2 units in the last place.
 *
 * | quantity | bound |
 * |---|---|
 * | frequency, as a share of the unscaled one | k = 16 (ln b + 4) v: the exponent's rounding is multiplied by ln b, and a scaling adds up to 5 operations and the error of its blend, (1 + high / (high - low)) of the rotations' own, or rotaryDim v / width of an index |
 * | rotated component | (u + (a + 8) 4v + a k) m L at angle a, pair length L, magnitude m: one rounding to f32, the angle's error turns by as much |
 * | rotated there and back | (sqrt 2 + 1) u L and as much again of f64: the first rounding of both components, and the second of one |
 * | cosine | 2 (d + 8) v: gamma(d) of the product and half of it for each length |
 * | mean, standard deviation of n cosines | cosine + 2 n v: running means are at most 1 |
 */
const f64Unit = 2 ** -53;
const f32Unit = 2 ** -24;

/** Error of a frequency as a share of the unscaled frequency. @param freqBase after NTK scaling, if any. */
export function frequencyBudget(freqBase: number): number {
  return 16 * (Math.log(freqBase) + 4) * f64Unit;
}

/** Absolute error of a rotated component. @param of.frequencyError absolute, radians per position. */
export function rotationBudget(of: {
  readonly position: number;
  readonly frequency: number;
  readonly frequencyError: number;
  readonly pairLength: number;
  readonly magnitude: number;
}): number {
  const { position, frequency, frequencyError, pairLength, magnitude } = of;
  const angleError = (position * frequency + 8) * 4 * f64Unit + position * frequencyError;
  return (f32Unit + angleError) * magnitude * pairLength;
}

/** Absolute error of a component rotated there and back, whose pair has this length. */
export function roundTripBudget(pairLength: number): number {
  return 3 * f32Unit * pairLength;
}

/** Absolute error of a cosine of two heads, and of means, extremes and standard deviations of `count` such. */
export function cosineBudget({ headDim, count }: { readonly headDim: number; readonly count: number }): number {
  return (2 * (headDim + 8) + 2 * count) * f64Unit;
}
