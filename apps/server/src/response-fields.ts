/**
 * Every field of a request to POST /v1/responses that OpenAI documents (API reference, responses: create), and those by which answers are
 * drawn that vLLM's ResponsesRequest has beside them.
 */
import { z } from 'zod';
import { extensionFields } from './ctkvr-fields.js';
import { each, type FieldTable, honoured, ignored, inside, refused, schemaOf } from './field-rules.js';
import { efforts } from './generation-request.js';
import { drawingFields } from './request-fields.js';
import { responseToolsFields, textFormatField } from './tools/openai-tool-fields.js';

const textPart = z.object({ type: z.enum(['input_text', 'output_text']), text: z.string() });

/** Fields of one part of an item's content. */
export const responsePartFields = {
  type: honoured('OpenAI', textPart.shape.type, 'only text'),
  text: honoured('OpenAI', textPart.shape.text, ''),
  annotations: ignored('OpenAI', 'part of an earlier answer'),
  logprobs: ignored('OpenAI', 'part of an earlier answer'),
} satisfies FieldTable;

const parts = each((part) => {
  const isText = !('type' in part) || part.type === 'input_text' || part.type === 'output_text';
  return isText ? responsePartFields : null; // of a part of another kind the kind is at fault
});

const text = z.union([z.string(), z.array(textPart).min(1)]);

const type = honoured(
  'OpenAI',
  z.enum(['message', 'function_call', 'function_call_output', 'reasoning']),
  'default `message`',
);
const earlier = {
  id: ignored('OpenAI', 'a label'),
  status: ignored('OpenAI', 'part of an earlier answer'),
} satisfies FieldTable;

/** Fields of a message. */
export const messageItemFields = {
  type,
  role: honoured('OpenAI', z.enum(['system', 'developer', 'user', 'assistant']), '`developer` is rendered as `system`'),
  content: honoured('OpenAI', text, 'a text, or a list of text parts, which are joined', parts),
  phase: ignored('OpenAI', 'part of an earlier answer'),
  ...earlier,
} satisfies FieldTable;

/** Fields of a call of a tool. */
export const callItemFields = {
  type,
  call_id: honoured('OpenAI', z.string(), ''),
  name: honoured('OpenAI', z.string(), ''),
  arguments: honoured('OpenAI', z.string(), 'JSON'),
  namespace: ignored('OpenAI', 'chat templates have no place for it'),
  ...earlier,
} satisfies FieldTable;

/** Fields of a tool's result. */
export const resultItemFields = {
  type,
  call_id: honoured('OpenAI', z.string(), ''),
  output: honoured('OpenAI', text, 'as `content` of a message', parts),
  ...earlier,
} satisfies FieldTable;

const reasoningItemFields = {
  type,
  summary: ignored('OpenAI', 'part of an earlier answer'),
  content: ignored('OpenAI', 'part of an earlier answer'),
  encrypted_content: ignored('OpenAI', 'part of an earlier answer'),
  ...earlier,
} satisfies FieldTable;

/** Refused before its kind is: this says what helps. */
const referenceItemFields = {
  type,
  id: refused('OpenAI', [], 'nothing is stored, so send the items themselves (store: false makes clients do so)'),
} satisfies FieldTable;

const itemTables: Readonly<Record<string, FieldTable>> = {
  message: messageItemFields,
  function_call: callItemFields,
  function_call_output: resultItemFields,
  reasoning: reasoningItemFields,
  item_reference: referenceItemFields,
};

function itemTable(item: object): FieldTable | null {
  const kind = 'type' in item && item.type !== null ? item.type : 'message';
  return typeof kind === 'string' && Object.hasOwn(itemTables, kind) ? (itemTables[kind] ?? null) : null;
}

/** Fields of all kinds: which of them a kind needs is asked when it is converted. */
const item = z.object({
  type: type.schema.default('message'),
  role: messageItemFields.role.schema.optional(),
  content: messageItemFields.content.schema.optional(),
  call_id: callItemFields.call_id.schema.optional(),
  name: callItemFields.name.schema.optional(),
  arguments: callItemFields.arguments.schema.optional(),
  output: resultItemFields.output.schema.optional(),
});

export type ResponseItem = z.infer<typeof item>;

export const reasoningFields = {
  effort: honoured(
    'OpenAI',
    z.enum(efforts),
    '`none` = off; templates that only know on and off take every other for on',
  ),
  summary: refused('OpenAI', [], 'thoughts are sent whole'),
  generate_summary: refused('OpenAI', [], 'thoughts are sent whole'),
} satisfies FieldTable;

/** Fields of `text`. */
export const textFields = {
  format: textFormatField,
  verbosity: refused('OpenAI', ['medium'], 'models served here have no such setting'),
} satisfies FieldTable;

export const responseFields = {
  model: honoured('OpenAI', z.string().min(1), 'the name served; another is a 404'),
  input: honoured(
    'OpenAI',
    z.union([z.string(), z.array(item).min(1)]),
    'a text, or a list of messages, tool calls and their results; see below. `reasoning` of earlier answers is left out',
    each(itemTable),
  ),
  instructions: honoured('OpenAI', z.string(), 'a system message before the others'),
  max_output_tokens: honoured('OpenAI', z.int().min(1), 'at most, and by default, what the context has room for'),
  ...drawingFields,
  ...extensionFields,
  metadata: honoured('OpenAI', z.record(z.string(), z.string()), 'labels: sent back with the answer'),
  stream: honoured('OpenAI', z.boolean(), 'default false'),
  stream_options: honoured(
    'OpenAI',
    z.object({}),
    'nothing in it changes an answer',
    inside({ include_obfuscation: ignored('OpenAI', 'no padding is sent') }),
  ),
  store: ignored('OpenAI', 'nothing is stored, and the answer says so'),
  user: ignored('OpenAI', 'a label'),
  safety_identifier: ignored('OpenAI', 'a label'),
  service_tier: ignored('OpenAI', 'there is one tier'),
  prompt_cache_key: ignored('OpenAI', 'a hint for caches'),
  prompt_cache_retention: ignored('OpenAI', 'a hint for caches'),
  max_tool_calls: ignored('OpenAI', 'it bounds calls of built-in tools, and there are none'),
  previous_response_id: refused('OpenAI', [], 'nothing is stored: send the whole conversation as input'),
  conversation: refused('OpenAI', [], 'nothing is stored: send the whole conversation as input'),
  background: refused('OpenAI', [false], 'nothing is stored that could be fetched later'),
  context_management: refused('OpenAI', [[]], 'a prompt is never cut'),
  truncation: refused('OpenAI', ['disabled'], 'a prompt is never cut'),
  prompt: refused('OpenAI', [], 'there are no stored prompts: send input and instructions'),
  include: honoured(
    'OpenAI',
    z.array(z.enum(['message.output_text.logprobs', 'reasoning.encrypted_content'])),
    'the log probabilities of the answer’s tokens, before temperature; answers have nothing that is encrypted',
  ),
  reasoning: honoured(
    'OpenAI',
    z.object({ effort: z.enum(efforts).optional() }),
    'for templates that can be told to think; see below',
    inside(reasoningFields),
  ),
  ...responseToolsFields,
  text: honoured(
    'OpenAI',
    z.object({ format: textFormatField.schema.optional() }),
    'the form of the answer; see below',
    inside(textFields),
  ),
  top_logprobs: honoured(
    'OpenAI',
    z.int().min(0).max(20),
    'default 0; only with `include` of `message.output_text.logprobs`',
  ),
} satisfies FieldTable;

export const responseSchema = schemaOf(responseFields, ['model', 'input']);

export type ResponseValues = z.infer<typeof responseSchema>;
