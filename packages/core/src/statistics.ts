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
  /** Bytes of keys, values, centroids, lists and tails read. */
  readonly bytesRead: number;
  /** Sum over heads and query heads of the estimated attention mass read exactly (0..1 each); divide by heads * groupSize. */
  readonly estimatedMass: number;
  /** Like estimatedMass but measured against all keys; 0 unless the step was audited. */
  readonly measuredMass: number;
  /** Heads that `measuredMass` covers. */
  readonly auditedHeads: number;
}

/** Milliseconds of one engine step by stage, wall clock on the engine's first thread. */
export interface StepTimings {
  readonly totalMs: number;
  /** Everything but attention, retrieval and sampling. */
  readonly linearMs: number;
  /** Retrieval work: probe, union, score, select. */
  readonly retrievalMs: number;
  /** Attention over what was chosen (and all prefill attention). */
  readonly attentionMs: number;
  readonly samplingMs: number;
}

/** Memory of one sequence, bytes. */
export interface SequenceMemory {
  readonly kvBytes: number;
  /** Lists, centroids, tails, and the recent queries kept to become centroids. */
  readonly indexBytes: number;
}
