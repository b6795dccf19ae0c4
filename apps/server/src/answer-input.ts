import type { GenerationRequest } from './generation-request.js';
import type { TokenClock } from './token-clock.js';

/** What an answer is generated from, once its prompt is read. */
export interface AnswerInput {
  readonly request: GenerationRequest;
  readonly maxTokens: number;
  readonly signal: AbortSignal;
  /** Made when the reading began. */
  readonly clock: TokenClock;
  readonly numCachedTokens: number;
}
