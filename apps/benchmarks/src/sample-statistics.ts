/** Median and tenth and ninetieth percentile: what a row of results shows. Means would let one interruption by another program decide. */
export interface SampleStatistics {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  readonly numSamples: number;
}

/** @param samples in any order, at least one. @throws {RangeError} when there is none. */
export function sampleStatistics(samples: readonly number[]): SampleStatistics {
  if (samples.length === 0) throw new RangeError('no samples: nothing was measured');
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    p10: quantile(sorted, 0.1),
    p90: quantile(sorted, 0.9),
    numSamples: sorted.length,
  };
}

/** Linear between the two nearest ranks. @param sorted ascending, at least one. @param q 0..1 */
function quantile(sorted: readonly number[], q: number): number {
  const rank = q * (sorted.length - 1);
  const below = sorted[Math.floor(rank)]!;
  const above = sorted[Math.ceil(rank)]!;
  return below + (above - below) * (rank - Math.floor(rank));
}
