/** What an admission is told of a request, and what it decides. Types only. */

export interface AdmissionRequest {
  /** Tokens of the prompt. */
  readonly numTokens: number;
  /** The most tokens that prompt and answer can have. */
  readonly maxTokens: number;
  /** Returns the bytes of pages and index with so many tokens stored. Never falls as tokens are added. */
  readonly bytesFor: (numTokens: number) => number;
}

export interface AdmissionOptions {
  /** Tokens of a KV page: requests grow by whole pages. */
  readonly pageSize: number;
  /** Tokens of an answer that must fit behind the prompt before a request begins. Default 256. */
  readonly reserveTokens?: number;
  /** Requests that may wait, those that were preempted included; one more is refused. At least 1, default 128. */
  readonly maxWaiting?: number;
}

/**
 * admit = begin, its prompt has room; grow = store more, as asked; preempt = give all memory back, then say `released`, and wait to be
 * admitted again; refuse = end: nothing that runs can make room.
 */
export interface AdmissionDecision {
  readonly type: 'admit' | 'grow' | 'preempt' | 'refuse';
  readonly id: number;
}
