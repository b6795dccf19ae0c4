/** What the routes answer with, for the OpenAPI document. Nothing is checked by these when the server runs; its tests hold answers to them. */
import { z } from 'zod';

const count = z.int().min(0);
const text = z.string();
/** Milliseconds and keys of an answer: our own addition. */
const ctkvr = z.record(z.string(), z.unknown());
const model = z.object({
  id: text,
  object: z.literal('model'),
  created: count,
  owned_by: text,
  context_length: count,
  max_model_len: count,
});

const usage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }),
});

const finishReason = z.string();
const logprobs = z.record(z.string(), z.unknown()).nullable();

/** An answer of OpenAI's two protocols of completions. */
function completion(object: string, choice: z.ZodRawShape) {
  const choices = z.array(z.object({ index: count, logprobs, finish_reason: finishReason, ...choice })).min(1);
  return z.object({ id: text, object: z.literal(object), created: count, model: text, choices, usage, ctkvr });
}

const session = z.object({
  id: text,
  object: z.literal('session'),
  model: text,
  name: text,
  state: z.enum(['reading', 'ready', 'failed', 'saved']),
  tokens_done: count,
  tokens_total: count,
  created: count,
  error: z.object({ message: text, code: text.nullable() }).optional(),
});

export const answerSchemas = {
  chatCompletion: completion('chat.completion', {
    message: z.object({ role: z.literal('assistant'), content: text.nullable(), refusal: text.nullable() }),
  }),
  completion: completion('text_completion', { text }),
  response: z.object({
    id: text,
    object: z.literal('response'),
    created_at: count,
    status: z.enum(['completed', 'incomplete']),
    model: text,
    output: z.array(z.object({ id: text, type: text, status: text })),
    usage: z.object({ input_tokens: count, output_tokens: count, total_tokens: count }),
    ctkvr,
  }),
  message: z.object({
    id: text,
    type: z.literal('message'),
    role: z.literal('assistant'),
    model: text,
    content: z.array(z.object({ type: text })),
    stop_reason: text,
    stop_sequence: text.nullable(),
    usage: z.object({ input_tokens: count, output_tokens: count, cache_read_input_tokens: count }),
    ctkvr,
  }),
  tokenCount: z.object({ input_tokens: count }),
  model,
  models: z.object({ object: z.literal('list'), data: z.array(model) }),
  tokens: z.object({
    tokens: z.array(z.union([count, z.object({ id: count, piece: z.union([text, z.array(count)]) })])),
  }),
  content: z.object({ content: text }),
  prompt: z.object({ prompt: text }),
  properties: z.object({
    default_generation_settings: z.object({ n_ctx: count, params: z.record(z.string(), z.number()) }),
    total_slots: count,
    model_alias: text,
    chat_template: text,
  }),
  health: z.object({ status: text, model: text, contextLength: count, running: count, queued: count }),
  ready: z.object({ status: text }),
  session,
  sessions: z.object({ object: z.literal('list'), data: z.array(session) }),
  sessionDeleted: z.object({ id: text, object: z.literal('session'), deleted: z.literal(true) }),
  passages: z.object({ passage_tokens: count, passages: z.array(text) }),
  openApi: z.object({ openapi: text, info: z.object({ title: text, version: text }) }),
  error: z.object({
    error: z.object({ message: text, type: text, param: text.nullable(), code: text.nullable() }),
  }),
  anthropicError: z.object({ type: z.literal('error'), error: z.object({ type: text, message: text }) }),
};

export type AnswerName = keyof typeof answerSchemas;
