import type { ChatFinish } from './chat-engine.js';

/** Tokens of prompt and answer as the two protocols of completions count them. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: {
    /** Tokens of the prompt that the prefix cache had stored. */
    readonly cached_tokens: number;
  };
}

export function toUsage(numPromptTokens: number, finish: ChatFinish): Usage {
  return {
    prompt_tokens: numPromptTokens,
    completion_tokens: finish.numCompletionTokens,
    total_tokens: numPromptTokens + finish.numCompletionTokens,
    prompt_tokens_details: { cached_tokens: finish.numCachedTokens },
  };
}
