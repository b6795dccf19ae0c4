/** What the engine is asked for, whatever the protocol: a prompt, and how its answer is drawn and ends. */
import type { LogitBias } from '@ctkvr/model-runner';
import type { SessionChanges } from './ctkvr-fields.js';
import type { ToolUse } from './tools/tool-use.js';

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
  /** What it may call; null = nothing. */
  readonly toolUse: ToolUse | null;
  /** How much to think; null = as the template does by itself. */
  readonly effort: AskedEffort | null;
}

/** JSON that an answer has to be. */
export interface AnswerJson {
  readonly schema: Readonly<Record<string, unknown>>;
  /** The request's field that asks for it. */
  readonly field: string;
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
  /** 1 = off. */
  readonly typicalP: number;
  readonly minP: number;
  /** From token ids to what is added to their logits. */
  readonly logitBias: LogitBias;
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
  /** What the answer's text has to be; null = any text. */
  readonly json: AnswerJson | null;
  /** How keys and values are kept and read, where that is not as the server has it. */
  readonly session: SessionChanges;
  /** Likeliest tokens to tell beside each token's log probability; null = tell none of it. */
  readonly numTopLogprobs: number | null;
  /** The session of the document that the messages are about; null = none. */
  readonly sessionId: string | null;
  /** Whose sessions it may use. */
  readonly owner: string;
  /** Whether to tell which passages were read. */
  readonly readMap: boolean;
}

/** An answer that stands last, and is no call of a tool, goes on unless told otherwise. */
export function endsInAnswer(messages: readonly ChatMessage[]): boolean {
  const last = messages.at(-1);
  return last?.role === 'assistant' && last.tool_calls === undefined;
}

/** Fills in the defaults. */
export function toMessagesPrompt(
  messages: readonly ChatMessage[],
  given: { [K in 'ending' | 'variables' | 'effort' | 'toolUse']?: MessagesPrompt[K] | undefined } = {},
): MessagesPrompt {
  const {
    ending = endsInAnswer(messages) ? 'continue' : 'answer',
    variables = {},
    effort = null,
    toolUse = null,
  } = given;
  return { type: 'messages', messages, ending, variables, effort, toolUse };
}

/** How tokens are drawn unless the request says otherwise. */
export const defaultSampling = {
  temperature: 1,
  topP: 1,
  topK: 0,
  typicalP: 1,
  minP: 0,
  repeatPenalty: 1,
  repeatWindow: 64,
  frequencyPenalty: 0,
  presencePenalty: 0,
} as const;
