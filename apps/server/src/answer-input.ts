import type { Grammar } from '@ctkvr/model-runner';
import type { GenerationRequest } from './generation-request.js';
import type { TokenClock } from './token-clock.js';
import type { AnswerPlan } from './tools/answer-plan.js';

/** The form of an answer, with what it is held to compiled. */
export interface PlannedAnswer extends Pick<AnswerPlan, 'tags' | 'newParser'> {
  readonly grammar: Grammar | undefined;
}

/** What an answer is generated from, once its prompt is read. */
export interface AnswerInput {
  readonly request: GenerationRequest;
  readonly planned: PlannedAnswer;
  readonly maxTokens: number;
  readonly signal: AbortSignal;
  /** Made when the reading began. */
  readonly clock: TokenClock;
  readonly numCachedTokens: number;
}
