/** What the engine is asked for, whatever the protocol: a prompt, and how its answer is drawn and ends. */
import { ApiError } from './api-error.js';
import type { Values } from './field-rules.js';
import type { cachingFields, drawingFields } from './request-fields.js';

/** What a chat template is given, under the names that templates know. A type, not an interface: they read messages as plain records. */
export type ChatMessage = {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  /** Of an assistant. */
  readonly tool_calls?: readonly ToolCall[];
  /** Of a tool: the call that it answers. */
  readonly tool_call_id?: string;
};

export type ToolCall = {
  readonly id: string;
  readonly type: 'function';
  readonly function: {
    readonly name: string;
    /** As JSON has them; the text itself when it is not a JSON object. */
    readonly arguments: unknown;
  };
};

export interface MessagesPrompt {
  readonly type: 'messages';
  readonly messages: readonly ChatMessage[];
  /** Where the prompt ends: where a new answer begins; within the last message, an answer that goes on; or wherever the messages end. */
  readonly ending: 'answer' | 'continue' | 'none';
  /** Of the chat template. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** How much to think; null = as the template does by itself. */
  readonly effort: AskedEffort | null;
}

export const efforts = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh'] as const;
export interface AskedEffort {
  readonly level: (typeof efforts)[number];
  /** The request's field that asks for it. */
  readonly field: string;
}

export type Prompt =
  | MessagesPrompt
  /** The texts of control tokens are those tokens. `addSpecial`: begins with BOS, where the model's prompts do. */
  | { readonly type: 'text'; readonly text: string; readonly addSpecial: boolean }
  | { readonly type: 'tokens'; readonly tokens: readonly number[] };

/** A checked request with its defaults filled in. */
export interface GenerationRequest {
  readonly prompt: Prompt;
  /** null = as many as the context still holds. */
  readonly maxTokens: number | null;
  /** 0 = greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** 0 = all. */
  readonly topK: number;
  readonly minP: number;
  /** 1 = off. */
  readonly repeatPenalty: number;
  /** Tokens that `repeatPenalty` looks back over. */
  readonly repeatWindow: number;
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  /** u32; null = drawn anew for each request. */
  readonly seed: number | null;
  /** None empty. */
  readonly stop: readonly string[];
  /** Whether to generate on when the model ends its turn. */
  readonly ignoreEndOfTurn: boolean;
  /** Only requests with the same one begin from each other's prompts. */
  readonly cacheSalt: string;
  /** Whether it may begin from the prompt of another. */
  readonly cachePrompt: boolean;
}

/** An answer that stands last, and is no call of a tool, goes on unless told otherwise. */
export function endsInAnswer(messages: readonly ChatMessage[]): boolean {
  const last = messages.at(-1);
  return last?.role === 'assistant' && last.tool_calls === undefined;
}

/** Fills in the defaults. */
export function toMessagesPrompt(
  messages: readonly ChatMessage[],
  given: { [K in 'ending' | 'variables' | 'effort']?: MessagesPrompt[K] | undefined } = {},
): MessagesPrompt {
  const { ending = endsInAnswer(messages) ? 'continue' : 'answer', variables = {}, effort = null } = given;
  return { type: 'messages', messages, ending, variables, effort };
}

/** A window that holds any prompt and answer. */
const WHOLE_SEQUENCE = 1 << 20;

/** How tokens are drawn unless the request says otherwise. */
export const defaultSampling = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  repeatPenalty: 1,
  repeatWindow: 64,
  frequencyPenalty: 0,
  presencePenalty: 0,
} as const;

export type DrawingValues = Values<typeof drawingFields, never>;
type CachingValues = Values<typeof cachingFields, never>;

/** Fills in the defaults. @throws {ApiError} 400 when both repetition penalties are given. */
export function toGeneration(
  given: DrawingValues & CachingValues,
  { prompt, maxTokens }: Pick<GenerationRequest, 'prompt' | 'maxTokens'>,
): GenerationRequest {
  return {
    prompt,
    maxTokens,
    temperature: given.temperature ?? defaultSampling.temperature,
    topP: given.top_p ?? defaultSampling.topP,
    topK: Math.max(given.top_k ?? defaultSampling.topK, 0),
    minP: given.min_p ?? defaultSampling.minP,
    ...repetition(given),
    frequencyPenalty: given.frequency_penalty ?? defaultSampling.frequencyPenalty,
    presencePenalty: given.presence_penalty ?? defaultSampling.presencePenalty,
    seed: given.seed === undefined ? null : toU32(given.seed),
    stop: given.stop === undefined ? [] : typeof given.stop === 'string' ? [given.stop] : given.stop,
    ignoreEndOfTurn: given.ignore_eos ?? false,
    cacheSalt: given.cache_salt ?? '',
    cachePrompt: given.cache_prompt ?? true,
  };
}

/** vLLM's penalty looks at everything, llama.cpp's at the last tokens. */
function repetition(given: DrawingValues): Pick<GenerationRequest, 'repeatPenalty' | 'repeatWindow'> {
  const {
    repetition_penalty: overAll,
    repeat_penalty: overLast,
    repeat_last_n: last = defaultSampling.repeatWindow,
  } = given;
  if (overAll !== undefined && overLast !== undefined) {
    throw new ApiError(
      400,
      "'repeat_penalty' cannot be honoured: it and repetition_penalty are the same over different windows: send one",
      { param: 'repeat_penalty', code: 'invalid_value' },
    );
  }
  if (overAll !== undefined) return { repeatPenalty: overAll, repeatWindow: WHOLE_SEQUENCE };
  return {
    repeatPenalty: overLast ?? defaultSampling.repeatPenalty,
    repeatWindow: last === -1 ? WHOLE_SEQUENCE : last,
  };
}

/** Any integer a client sends becomes a u32, the same one each time: negative and large seeds wrap. */
function toU32(seed: number): number {
  return Number(BigInt.asUintN(32, BigInt(seed)));
}
