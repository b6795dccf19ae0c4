/**
 * The body of POST /v1/chat/completions as the engine gets it: checked field by field against the tables of request-fields.ts, with
 * defaults filled in.
 */
import { ApiError } from './api-error.js';
import { checkBody } from './check-fields.js';
import { mustBe } from './invalid-value.js';
import { type RequestValues, requestFields, requestSchema } from './request-fields.js';

/** What a chat template is given. A type, not an interface: templates read messages as plain records. */
export type ChatMessage = {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
};

/** A checked request with its defaults filled in. */
export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
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
  readonly stream: boolean;
  readonly includeUsage: boolean;
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

/** Returns the checked request. @throws {ApiError} 400 with `param` naming the first field that is wrong. */
export function parseChatRequest(json: unknown): ChatRequest {
  const given = checked(json);
  return {
    model: given.model,
    messages: given.messages.map((one) => ({ role: templateRole(one.role), content: plainText(one.content) })),
    maxTokens: given.max_completion_tokens ?? given.max_tokens ?? null,
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
    stream: given.stream ?? false,
    includeUsage: given.stream_options?.include_usage ?? false,
  };
}

function checked(json: unknown): RequestValues {
  const given = checkBody(json, requestFields, requestSchema);
  given.messages.forEach(({ role, content }, index) => {
    if (role !== 'user' || plainText(content).trim() !== '') return;
    throw mustBe(`messages[${index}].content`, 'a text that is not empty in a message of the user', content);
  });
  if (given.stream_options !== undefined && !given.stream) {
    throw invalid('stream_options', 'it is only allowed together with stream: true');
  }
  return given;
}

/** vLLM's penalty looks at everything, llama.cpp's at the last tokens. */
function repetition(given: RequestValues): Pick<ChatRequest, 'repeatPenalty' | 'repeatWindow'> {
  const {
    repetition_penalty: overAll,
    repeat_penalty: overLast,
    repeat_last_n: last = defaultSampling.repeatWindow,
  } = given;
  if (overAll !== undefined && overLast !== undefined) {
    throw invalid('repeat_penalty', 'it and repetition_penalty are the same over different windows: send one');
  }
  if (overAll !== undefined) return { repeatPenalty: overAll, repeatWindow: WHOLE_SEQUENCE };
  return {
    repeatPenalty: overLast ?? defaultSampling.repeatPenalty,
    repeatWindow: last === -1 ? WHOLE_SEQUENCE : last,
  };
}

function invalid(param: string, why: string): ApiError {
  return new ApiError(400, `'${param}' cannot be honoured: ${why}`, { param, code: 'invalid_value' });
}

/** GGUF chat templates know `system`; `developer` is OpenAI's newer word for it. */
function templateRole(role: 'system' | 'developer' | 'user' | 'assistant'): ChatMessage['role'] {
  return role === 'developer' ? 'system' : role;
}

function plainText(value: RequestValues['messages'][number]['content']): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}

/** Any integer a client sends becomes a u32, the same one each time: negative and large seeds wrap. */
function toU32(seed: number): number {
  return Number(BigInt.asUintN(32, BigInt(seed)));
}
