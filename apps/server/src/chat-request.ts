/**
 * The body of POST /v1/chat/completions: which fields we read, their bounds, and what we refuse. A field we cannot honour is
 * refused with its name rather than ignored when ignoring it would change the answer (tools, n > 1, response_format ...); fields
 * that only label a request (user, metadata, store ...) are ignored. Source: the OpenAI API reference, chat completions.
 */
import { z } from 'zod';
import { ApiError } from './api-error.js';

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
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  /** u32; null = drawn anew for each request. */
  readonly seed: number | null;
  /** At most 4, none empty. */
  readonly stop: readonly string[];
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

const textPart = z.object({ type: z.literal('text', 'only text parts are supported'), text: z.string() });
const content = z.union([z.string(), z.array(textPart).min(1)], 'must be a string or a list of text parts');
const message = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant'], 'must be system, developer, user or assistant'),
  content,
});

const body = z.object({
  model: z.string().min(1),
  messages: z.array(message).min(1),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  seed: z.int().nullish(),
  stop: z
    .union([z.string().min(1), z.array(z.string().min(1)).max(4)], 'must be a string or up to 4 strings')
    .nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  n: unsupported(z.literal(1), 'only one choice a request is supported: leave it out or send 1'),
  tools: unsupported(z.array(z.never()).max(0), 'tool calls are not supported: leave it out'),
  functions: unsupported(z.array(z.never()).max(0), 'function calls are not supported: leave it out'),
  response_format: unsupported(z.object({ type: z.literal('text') }), "only { type: 'text' } is supported"),
  logprobs: unsupported(z.literal(false), 'log probabilities are not supported: leave it out'),
  logit_bias: unsupported(z.record(z.string(), z.never()), 'logit biases are not supported: leave it out'),
  audio: unsupported(z.null(), 'audio is not supported: leave it out'),
});

/** Returns the checked request. @throws {ApiError} 400 with `param` naming the first field that is wrong. */
export function parseChatRequest(json: unknown): ChatRequest {
  const parsed = body.safeParse(json);
  if (!parsed.success) throw toInvalid(parsed.error.issues[0]);
  const given = parsed.data;
  if (given.stream_options && !given.stream) {
    throw new ApiError(400, 'stream_options is only allowed together with stream: true', {
      param: 'stream_options',
      code: 'invalid_value',
    });
  }
  return {
    model: given.model,
    messages: given.messages.map((one) => ({ role: templateRole(one.role), content: plainText(one.content) })),
    maxTokens: given.max_completion_tokens ?? given.max_tokens ?? null,
    temperature: given.temperature ?? 1,
    topP: given.top_p ?? 1,
    frequencyPenalty: given.frequency_penalty ?? 0,
    presencePenalty: given.presence_penalty ?? 0,
    seed: given.seed == null ? null : toU32(given.seed),
    stop: given.stop == null ? [] : typeof given.stop === 'string' ? [given.stop] : given.stop,
    stream: given.stream ?? false,
    includeUsage: given.stream_options?.include_usage ?? false,
  };
}

function unsupported<T extends z.ZodType>(accepted: T, message: string) {
  return z.custom<z.infer<T>>((value) => value == null || accepted.safeParse(value).success, message).optional();
}

/** GGUF chat templates know `system`; `developer` is OpenAI's newer word for it. */
function templateRole(role: 'system' | 'developer' | 'user' | 'assistant'): ChatMessage['role'] {
  return role === 'developer' ? 'system' : role;
}

function plainText(value: z.infer<typeof content>): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}

/** Any integer a client sends becomes a u32, the same one each time: negative and large seeds wrap. */
function toU32(seed: number): number {
  return Number(BigInt.asUintN(32, BigInt(seed)));
}

function toInvalid(issue: z.core.$ZodIssue | undefined): ApiError {
  const inner = issue === undefined ? undefined : deepest(issue);
  const param = inner === undefined || inner.path.length === 0 ? null : pathName(inner.path);
  const message = inner?.message ?? 'the body is not a chat completion request';
  return new ApiError(400, param === null ? `Invalid request body: ${message}` : `Invalid '${param}': ${message}`, {
    param,
    code: inner?.code === 'invalid_type' && /undefined/.test(message) ? 'missing_required_parameter' : 'invalid_value',
  });
}

/** Follows a union into the branch that got furthest, so that `messages[0].content[1].type` is named, not `messages[0].content`. */
function deepest(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string; code: string } {
  if (issue.code === 'invalid_union') {
    const nested = issue.errors.map((branch) => branch[0]).filter((one) => one !== undefined && one.path.length > 0);
    const first = nested[0];
    if (first !== undefined) {
      const inside = deepest(first);
      return { ...inside, path: [...issue.path, ...inside.path] };
    }
  }
  return { path: [...issue.path], message: issue.message, code: issue.code };
}

function pathName(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name === '' ? String(key) : `${name}.${String(key)}`),
    '',
  );
}
