/** What one decode step cost and covered. Sums over layers and KV heads unless said; the native engine fills it once a step. */
export interface SelectionCounters {
  /** Number of (layer, KV head) attentions summed here. */
  readonly heads: number;
  /** Keys in the sequence, summed over heads: what a dense step would have read. */
  readonly keysTotal: number;
  /** Keys scored: sinks, window and candidates. */
  readonly keysRead: number;
  /** Values read: sinks, window and selected. */
  readonly valuesRead: number;
  readonly centroidsProbed: number;
  readonly candidates: number;
  readonly selected: number;
  /** Of `heads`, those that read everything because no centroid was similar to the query. */
  readonly denseRepairs: number;
  /** Bytes of keys, values, centroids, lists and the tail's clusters read. */
  readonly bytesRead: number;
  /** Estimated attention mass that was read exactly, 0 to 1, summed over heads and query heads: divide by heads * groupSize for the mean. */
  readonly estimatedMass: number;
  /** Heads whose attention mass was also measured, against all keys: every one in an audited step, one with `massSampling`, else 0. */
  readonly auditedHeads: number;
  /** Over the audited heads and their query heads: sum of the mass measured, of its estimate, and of |estimate - measured|. */
  readonly measuredMass: number;
  readonly auditedEstimatedMass: number;
  readonly massError: number;
}

/** Milliseconds of one engine step, wall clock. `totalMs` is the sum of the next five. */
export interface StepTimings {
  readonly totalMs: number;
  /** Everything but attention, retrieval and sampling. */
  readonly linearMs: number;
  /** Retrieval work: probe, union, score, select. */
  readonly retrievalMs: number;
  /** Attention over what was chosen, all prefill attention, storing new keys and values, waiting. */
  readonly attentionMs: number;
  readonly samplingMs: number;
  /** Growing the indexes of sequences that decode. */
  readonly indexMs: number;
  /** The stages of retrieval and attention; absent when the engine does not report them. */
  readonly stages?: StageTimes;
}

/** Milliseconds of one step's retrieval and attention, over all layers; means over the engine's threads, so that their sum is wall clock. */
export interface StageTimes {
  /** New keys, values and queries written. */
  readonly storeMs: number;
  /** Finding the nearest centroids and the heaviest clusters, and estimating all other clusters. */
  readonly probeMs: number;
  /** Uniting posting lists. */
  readonly unionMs: number;
  /** Exact scores of candidates. */
  readonly scoreMs: number;
  readonly selectMs: number;
  /** Attention over sinks, window and selected. */
  readonly attendMs: number;
  /** Merging partial attention and the tail. */
  readonly mergeMs: number;
  /** Attention of prefilled tokens. */
  readonly prefillMs: number;
  /** Threads waiting for each other. */
  readonly waitMs: number;
}

/** Memory of one sequence, bytes. */
export interface SequenceMemory {
  readonly kvBytes: number;
  /** Lists, centroids, clusters, and the recent queries kept to become centroids. */
  readonly indexBytes: number;
}
