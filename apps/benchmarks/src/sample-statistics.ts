/** Median and tenth and ninetieth percentile: what a row of results shows. Not means, since one interruption by another program would change them. */
export interface SampleStatistics {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  readonly numSamples: number;
}

/** @param samples in any order, at least one. @throws {RangeError} when there is none. */
export function sampleStatistics(samples: readonly number[]): SampleStatistics {
  return {
    median: quantileOf(samples, 0.5),
    p10: quantileOf(samples, 0.1),
    p90: quantileOf(samples, 0.9),
    numSamples: samples.length,
  };
}

/**
 * Returns a quantile, linear between the two nearest ranks.
 * @param samples in any order, at least one. @param q 0..1 @throws {RangeError} when there is none.
 */
export function quantileOf(samples: readonly number[], q: number): number {
  if (samples.length === 0) throw new RangeError('no samples: nothing was measured');
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = q * (sorted.length - 1);
  const below = sorted[Math.floor(rank)]!;
  const above = sorted[Math.ceil(rank)]!;
  return below + (above - below) * (rank - Math.floor(rank));
}
