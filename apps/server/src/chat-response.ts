/** The objects a chat completion is answered with, whole or in chunks, named as OpenAI names them. */
import type { ChatFinish, ChatStatistics } from './chat-engine.js';

/** What every object of one answer repeats. */
export interface ResponseHead {
  /** `chatcmpl-…`, one for all chunks of an answer. */
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

export interface ChatUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: {
    /** Tokens of the prompt that the prefix cache had stored. */
    readonly cached_tokens: number;
  };
}

export interface ChatCompletion extends ResponseHead {
  readonly object: 'chat.completion';
  readonly choices: readonly [
    {
      readonly index: 0;
      readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null };
      readonly logprobs: null;
      readonly finish_reason: ChatFinish['reason'];
    },
  ];
  readonly usage: ChatUsage;
  readonly ctkvr: ChatStatistics;
}

export interface ChatCompletionChunk extends ResponseHead {
  readonly object: 'chat.completion.chunk';
  readonly choices: readonly {
    readonly index: 0;
    readonly delta: { readonly role?: 'assistant'; readonly content?: string };
    readonly logprobs: null;
    readonly finish_reason: ChatFinish['reason'] | null;
  }[];
  /** null but in the last chunk; absent unless the client asked for it. */
  readonly usage?: ChatUsage | null;
  /** In the chunk with the finish reason only. */
  readonly ctkvr?: ChatStatistics;
}

export function toUsage(numPromptTokens: number, finish: ChatFinish): ChatUsage {
  return {
    prompt_tokens: numPromptTokens,
    completion_tokens: finish.numCompletionTokens,
    total_tokens: numPromptTokens + finish.numCompletionTokens,
    prompt_tokens_details: { cached_tokens: finish.numCachedTokens },
  };
}

export function toCompletion(
  head: ResponseHead,
  answer: { text: string; finish: ChatFinish; usage: ChatUsage },
): ChatCompletion {
  return {
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: answer.text, refusal: null },
        logprobs: null,
        finish_reason: answer.finish.reason,
      },
    ],
    usage: answer.usage,
    ctkvr: answer.finish.statistics,
  };
}

/** A chunk that carries the role, some text, or the finish reason. */
export function toChunk(
  head: ResponseHead,
  part: {
    delta: { role?: 'assistant'; content?: string };
    finish?: ChatFinish | undefined;
    includeUsage: boolean;
  },
): ChatCompletionChunk {
  return {
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta: part.delta, logprobs: null, finish_reason: part.finish?.reason ?? null }],
    ...(part.includeUsage ? { usage: null } : {}),
    ...(part.finish === undefined ? {} : { ctkvr: part.finish.statistics }),
  };
}

/** The extra last chunk of `stream_options: { include_usage: true }`. */
export function toUsageChunk(head: ResponseHead, usage: ChatUsage): ChatCompletionChunk {
  return { ...head, object: 'chat.completion.chunk', choices: [], usage };
}
