/**
 * Every field of a request to POST /v1/messages and /v1/messages/count_tokens that Anthropic documents (API reference, messages: create, and
 * what is in beta of it).
 */
import { z } from 'zod';
import { extensionFields } from './ctkvr-fields.js';
import { each, type FieldTable, honoured, ignored, refused, schemaOf } from './field-rules.js';
import { anthropicToolsFields } from './tools/anthropic-tool-fields.js';

const cacheHint = ignored('Anthropic', 'a hint for caches');
const earlier = ignored('Anthropic', 'part of an earlier answer');

const textBlock = z.object({ type: z.literal('text'), text: z.string() });

/** Fields of a block of text. */
export const textBlockFields = {
  type: honoured('Anthropic', textBlock.shape.type, ''),
  text: honoured('Anthropic', textBlock.shape.text, ''),
  cache_control: cacheHint,
  citations: earlier,
} satisfies FieldTable;

/** Of a block of another kind the kind is at fault, not the fields that come with it. */
const textBlocks = each((block) => ('type' in block && block.type !== 'text' ? null : textBlockFields));
const textOrBlocks = z.union([z.string(), z.array(textBlock)]);

const type = honoured(
  'Anthropic',
  z.enum(['text', 'tool_use', 'tool_result', 'thinking', 'redacted_thinking']),
  'the last two, of earlier answers, are left out',
);

/** Fields of a call of a tool. */
export const toolUseFields = {
  type,
  id: honoured('Anthropic', z.string(), ''),
  name: honoured('Anthropic', z.string(), ''),
  input: honoured('Anthropic', z.record(z.string(), z.unknown()), 'any object'),
  cache_control: cacheHint,
  caller: earlier,
  toolset_name: earlier,
} satisfies FieldTable;

/** Fields of a tool's result. */
export const toolResultFields = {
  type,
  tool_use_id: honoured('Anthropic', z.string(), ''),
  content: honoured('Anthropic', textOrBlocks, 'a text, or a list of text blocks', textBlocks),
  is_error: honoured('Anthropic', z.boolean(), 'default false; true = `Error: ` before the content'),
  cache_control: cacheHint,
  toolset_name: earlier,
} satisfies FieldTable;

const blockTables: Readonly<Record<string, FieldTable>> = {
  text: textBlockFields,
  tool_use: toolUseFields,
  tool_result: toolResultFields,
  thinking: { type, thinking: earlier, signature: earlier },
  redacted_thinking: { type, data: earlier },
};

function blockTable(block: object): FieldTable | null {
  const kind = 'type' in block ? block.type : undefined;
  return typeof kind === 'string' && Object.hasOwn(blockTables, kind) ? (blockTables[kind] ?? null) : null;
}

/** Fields of all kinds: which of them a kind needs is asked when it is converted. */
const block = z.object({
  type: type.schema,
  text: textBlock.shape.text.optional(),
  id: toolUseFields.id.schema.optional(),
  name: toolUseFields.name.schema.optional(),
  input: toolUseFields.input.schema.optional(),
  tool_use_id: toolResultFields.tool_use_id.schema.optional(),
  content: toolResultFields.content.schema.optional(),
  is_error: toolResultFields.is_error.schema.optional(),
});

export type AnthropicBlock = z.infer<typeof block>;

/** Fields of one message. */
export const turnFields = {
  role: honoured(
    'Anthropic',
    z.enum(['user', 'assistant', 'system']),
    'turns of one role that follow each other are one',
  ),
  content: honoured(
    'Anthropic',
    z.union([z.string(), z.array(block)]),
    'a text, or a list of blocks; see below. Texts are joined by an empty line',
    each(blockTable),
  ),
} satisfies FieldTable;

const turn = z.object({ role: turnFields.role.schema, content: turnFields.content.schema });

/** What the prompt is made of. */
const promptFields = {
  model: honoured('Anthropic', z.string().min(1), 'the name served; another is a 404'),
  messages: honoured(
    'Anthropic',
    z.array(turn).min(1),
    'at least one; see below',
    each(() => turnFields),
  ),
  system: honoured('Anthropic', textOrBlocks, 'a text, or a list of text blocks', textBlocks),
  cache_control: cacheHint,
  user_profile_id: ignored('Anthropic', 'a label'),
  workspace_id: ignored('Anthropic', 'a label'),
  speed: ignored('Anthropic', 'a hint for speed'),
  ...anthropicToolsFields,
  mcp_servers: refused('Anthropic', [[]], 'no tools are called from here: send tools, and call them'),
  context_management: refused('Anthropic', [], 'a prompt is never cut'),
} satisfies FieldTable;

export const anthropicFields = {
  ...promptFields,
  max_tokens: honoured('Anthropic', z.int().min(1), 'needed; at most what the context has room for'),
  temperature: honoured('Anthropic', z.number().min(0).max(2), 'default 1; 0 = greedy'),
  top_p: honoured('Anthropic', z.number().gt(0).max(1), 'default 1'),
  top_k: honoured('Anthropic', z.int().min(0).max(0x7fff_ffff), 'default 0 = all'),
  stop_sequences: honoured('Anthropic', z.array(z.string().min(1)).max(64), 'up to 64'),
  ...extensionFields,
  stream: honoured('Anthropic', z.boolean(), 'default false'),
  metadata: ignored('Anthropic', 'a label'),
  service_tier: ignored('Anthropic', 'there is one tier'),
  inference_geo: ignored('Anthropic', 'this machine answers'),
  container: refused('Anthropic', [], 'no code is run'),
  diagnostics: refused('Anthropic', [], 'there are none'),
} satisfies FieldTable;

export const anthropicSchema = schemaOf(anthropicFields, ['model', 'messages', 'max_tokens']);

export const countFields = promptFields;

export const countSchema = schemaOf(countFields, ['model', 'messages']);

export type AnthropicPrompt = z.infer<typeof countSchema>;
