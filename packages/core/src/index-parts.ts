/** What a centroid index is made of, as it shows it. Types only; packages/centroid-index and the native engine give them. */

/** Centroids made at one time. */
export interface SegmentInfo {
  /** Where its lists end. */
  readonly end: number;
  /** Tokens stored when it was made. */
  readonly madeAt: number;
  readonly numCentroids: number;
}

/** What stands for indexed positions that are not read. */
export interface TailInfo {
  /** f32 [groupSize]: what is added to each query head's lse, 0 to log 2, as the build measured it. */
  readonly corrections: Float32Array;
  /** In order, without gaps, together the indexed region: one for each time it grew. */
  readonly segments: readonly TailSegmentInfo[];
}

/** Clusters of the keys and values of one stretch of positions. */
export interface TailSegmentInfo {
  /** Position of the first. */
  readonly start: number;
  /** Tokens stored when it was made. */
  readonly madeAt: number;
  /** u16 [positions]: the cluster of each. */
  readonly clusterOf: Uint16Array;
  /** f32 [numClusters, headDim], numbers of f16: the clusters' mean keys. */
  readonly keys: Float32Array;
  /** f32 [numClusters, headDim], numbers of f16: their mean values. */
  readonly values: Float32Array;
}

/** What the keys that are no candidates amount to for one query, as the tail estimates it. */
export interface TailEstimate {
  /** f32 [groupSize]: their log-sum-exp; -Infinity when there are no such keys. */
  readonly lse: Float32Array;
  /** f32 [groupSize, headDim]: their softmax-weighted mean value. */
  readonly value: Float32Array;
}

/** Where candidates may lie and how many of them are read. */
export interface RefineRules {
  /** Stored tokens that make up the sequence, from the first on. */
  readonly numTokens: number;
  /** The region of the candidates, [start, end); what is around it is always attended. */
  readonly start: number;
  readonly end: number;
  /** 0 = all. */
  readonly maxSelected: number;
  /** 1 = off. */
  readonly topP: number;
}
