/** What the two statistics of rotated queries give, in plain TypeScript (packages/rope-similarity) and in the native engine. Types only. */

/** Statistics over all pairs of queries that far apart; NaN where there is no pair. */
export interface CosineByDistance {
  /** Positions apart, as asked, [numDistances]. */
  readonly distances: Uint32Array;
  /** Pairs counted, [numDistances]. */
  readonly count: Uint32Array;
  /** Of the group cosine (mean over the heads of a pair), f64 [numDistances] each. */
  readonly mean: Float64Array;
  readonly min: Float64Array;
  readonly max: Float64Array;
  readonly standardDeviation: Float64Array;
  /** Of each head's own cosine, f64 [numDistances, groupSize] each. */
  readonly headMean: Float64Array;
  readonly headMin: Float64Array;
  readonly headMax: Float64Array;
  readonly headStandardDeviation: Float64Array;
}

export interface OverlapBySimilarity {
  /** Group cosine (mean over heads) of each pair, f64 [numPairs]. */
  readonly similarity: Float64Array;
  /** Share of the topK keys of the first that are also among the topK of the second, f64 [numPairs], 0..1. */
  readonly overlap: Float64Array;
  /** Each head's own cosine, f64 [numPairs, groupSize]. */
  readonly headSimilarity: Float64Array;
  /** The same share for each head's own topK keys, f64 [numPairs, groupSize]. */
  readonly headOverlap: Float64Array;
}
