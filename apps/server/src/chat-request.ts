/**
 * The body of POST /v1/chat/completions as the engine gets it: checked field by field against the tables of request-fields.ts, with
 * defaults filled in.
 */
import { ApiError } from './api-error.js';
import { checkFields } from './check-fields.js';
import { invalidValue, mustBe } from './invalid-value.js';
import {
  type HonouredValues,
  messageFields,
  partFields,
  requestFields,
  requestSchema,
  streamOptionFields,
} from './request-fields.js';

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
  /** Only requests with the same one begin from each other's prompts. */
  readonly cacheSalt: string;
  /** Whether it may begin from the prompt of another. */
  readonly cachePrompt: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** A window that holds any prompt and answer. */
const WHOLE_SEQUENCE = 1 << 20;

/** Returns the checked request. @throws {ApiError} 400 with `param` naming the first field that is wrong. */
export function parseChatRequest(json: unknown): ChatRequest {
  const given = checked(json);
  return {
    model: given.model,
    messages: given.messages.map((one) => ({ role: templateRole(one.role), content: plainText(one.content) })),
    maxTokens: given.max_completion_tokens ?? given.max_tokens ?? null,
    temperature: given.temperature ?? 1,
    topP: given.top_p ?? 1,
    topK: Math.max(given.top_k ?? 0, 0),
    minP: given.min_p ?? 0,
    ...repetition(given),
    frequencyPenalty: given.frequency_penalty ?? 0,
    presencePenalty: given.presence_penalty ?? 0,
    seed: given.seed === undefined ? null : toU32(given.seed),
    stop: given.stop === undefined ? [] : typeof given.stop === 'string' ? [given.stop] : given.stop,
    ignoreEndOfTurn: given.ignore_eos ?? false,
    cacheSalt: given.cache_salt ?? '',
    cachePrompt: given.cache_prompt ?? true,
    stream: given.stream ?? false,
    includeUsage: given.stream_options?.include_usage ?? false,
  };
}

function checked(json: unknown): HonouredValues {
  const parts = isObject(json) ? honouredParts(json) : json;
  const parsed = requestSchema.safeParse(parts);
  if (!parsed.success) throw invalidValue(requestSchema, parts, parsed.error.issues[0]!);
  const given = parsed.data as HonouredValues;
  given.messages.forEach(({ role, content }, index) => {
    if (role !== 'user' || plainText(content).trim() !== '') return;
    throw mustBe(`messages[${index}].content`, 'a text that is not empty in a message of the user', content);
  });
  if (given.stream_options !== undefined && !given.stream) {
    throw invalid('stream_options', 'it is only allowed together with stream: true');
  }
  return given;
}

/** The honoured fields, at every depth. What has not even the right shape is left for the schema to name. */
function honouredParts(json: object): Record<string, unknown> {
  const kept = checkFields(json, requestFields);
  if (isObject(kept.stream_options)) {
    kept.stream_options = checkFields(kept.stream_options, streamOptionFields, 'stream_options.');
  }
  kept.messages = eachObject(kept.messages, 'messages', (message, path) => {
    const fields = checkFields(message, messageFields, `${path}.`);
    fields.content = eachObject(fields.content, `${path}.content`, (part, at) => {
      // Of a part of another kind the kind is at fault, not the fields that come with it.
      return 'type' in part && part.type !== 'text' ? part : checkFields(part, partFields, `${at}.`);
    });
    return fields;
  });
  return kept;
}

function eachObject(list: unknown, path: string, check: (item: object, path: string) => unknown): unknown {
  if (!Array.isArray(list)) return list;
  return list.map((item: unknown, index) => (isObject(item) ? check(item, `${path}[${index}]`) : item));
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** vLLM's penalty looks at everything, llama.cpp's at the last tokens. */
function repetition(given: HonouredValues): Pick<ChatRequest, 'repeatPenalty' | 'repeatWindow'> {
  const { repetition_penalty: overAll, repeat_penalty: overLast, repeat_last_n: last = 64 } = given;
  if (overAll !== undefined && overLast !== undefined) {
    throw invalid('repeat_penalty', 'it and repetition_penalty are the same over different windows: send one');
  }
  if (overAll !== undefined) return { repeatPenalty: overAll, repeatWindow: WHOLE_SEQUENCE };
  return { repeatPenalty: overLast ?? 1, repeatWindow: last === -1 ? WHOLE_SEQUENCE : last };
}

function invalid(param: string, why: string): ApiError {
  return new ApiError(400, `'${param}' cannot be honoured: ${why}`, { param, code: 'invalid_value' });
}

/** GGUF chat templates know `system`; `developer` is OpenAI's newer word for it. */
function templateRole(role: 'system' | 'developer' | 'user' | 'assistant'): ChatMessage['role'] {
  return role === 'developer' ? 'system' : role;
}

function plainText(value: HonouredValues['messages'][number]['content']): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}

/** Any integer a client sends becomes a u32, the same one each time: negative and large seeds wrap. */
function toU32(seed: number): number {
  return Number(BigInt.asUintN(32, BigInt(seed)));
}
