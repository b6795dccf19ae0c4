/** What the suite `same-bits` found. */
import type { ResultHead } from './result-head.js';

export interface SameBitsResult extends ResultHead {
  readonly suite: 'same-bits';
  readonly rounds: number;
  /** Questions of a round, and the most tokens of an answer. */
  readonly numQuestions: number;
  readonly tokensPerAnswer: number;
  readonly rows: readonly SameBitsRow[];
}

/** One way of asking all questions. */
export interface SameBitsRow {
  readonly threads: number;
  /** Questions that are asked at the same time. */
  readonly clients: number;
  /** Most sequences that shared a step. */
  readonly mostInStep: number;
  readonly numAnswers: number;
  /** Answers of the same tokens as those of one client and the first number of threads. */
  readonly sameTokens: number;
  /** Of those, answers whose every distribution was the same to the bit. */
  readonly sameBits: number;
}
