/** Fields by which Anthropic's protocol names tools, thinking and the form of an answer, and what the engine is asked for by them. */
import { z } from 'zod';
import { each, type FieldTable, honoured, ignored, inside, refused } from '../field-rules.js';
import type { AnswerJson, AskedEffort } from '../generation-request.js';
import { mustBe } from '../invalid-value.js';
import { jsonObject, toolName } from './openai-tool-fields.js';
import { toToolUse } from './to-tool-use.js';
import type { ToolUse } from './tool-use.js';

const kind = z.literal('custom');

/** Fields of a tool. */
export const anthropicToolFields = {
  type: honoured('Anthropic', kind, 'only `custom`, the default'),
  name: honoured('Anthropic', toolName, 'letters, digits, `_` and `-`'),
  description: honoured('Anthropic', z.string(), 'shown to the model'),
  input_schema: honoured('Anthropic', jsonObject, 'a JSON schema of an object'),
  strict: ignored('Anthropic', 'calls that have to come are held to the schema, others never'),
  cache_control: ignored('Anthropic', 'a hint for caches'),
  eager_input_streaming: ignored('Anthropic', 'the input of a call is sent in one piece'),
  input_examples: refused('Anthropic', [[]], 'templates have no place for them: put them into the description'),
  defer_loading: refused('Anthropic', [false], 'all tools are shown to the model'),
  allowed_callers: refused('Anthropic', [['direct']], 'no code is run'),
} satisfies FieldTable;

const tool = z.object({
  type: kind.optional(),
  name: toolName,
  description: anthropicToolFields.description.schema.optional(),
  input_schema: jsonObject,
});

/** Fields of `tool_choice`. */
export const toolChoiceFields = {
  type: honoured('Anthropic', z.enum(['auto', 'any', 'tool', 'none']), ''),
  name: honoured('Anthropic', z.string(), 'with the type `tool`'),
  disable_parallel_tool_use: honoured('Anthropic', z.boolean(), 'default false; true = one call at most'),
} satisfies FieldTable;

const toolChoice = z.object({
  type: toolChoiceFields.type.schema,
  name: toolChoiceFields.name.schema.optional(),
  disable_parallel_tool_use: toolChoiceFields.disable_parallel_tool_use.schema.optional(),
});

const thinking = z.object({ type: z.enum(['enabled', 'adaptive', 'disabled']) });

/** Fields of `thinking`. */
export const thinkingFields = {
  type: honoured(
    'Anthropic',
    thinking.shape.type,
    '`enabled` is for templates that can be told to think; `adaptive` = as the template does',
  ),
  budget_tokens: ignored('Anthropic', 'a target; `max_tokens` bounds thoughts and answer together'),
  display: refused('Anthropic', ['summarized'], 'thoughts are sent whole'),
} satisfies FieldTable;

const format = z.object({ type: z.literal('json_schema'), schema: jsonObject });

/** Fields of `output_format` and of `output_config.format`. */
export const outputFormatFields = {
  type: honoured('Anthropic', format.shape.type, ''),
  schema: honoured('Anthropic', jsonObject, 'a JSON schema of supported keywords; another is refused with its name'),
} satisfies FieldTable;

/** Fields of `output_config`. */
export const outputConfigFields = {
  format: honoured('Anthropic', format, 'the answer is held to it', inside(outputFormatFields)),
  effort: honoured('Anthropic', z.enum(['low', 'medium', 'high', 'xhigh']), 'for templates that can be told to think'),
} satisfies FieldTable;

/** What the prompt is made of, beside the messages. */
export const anthropicToolsFields = {
  tools: honoured(
    'Anthropic',
    z.array(tool),
    'shown to the model by its chat template, or as text where that knows no tools; see below',
    // Of a tool of another kind the kind is at fault, not the fields that come with it.
    each((one) => ('type' in one && one.type !== 'custom' && one.type !== null ? null : anthropicToolFields)),
  ),
  tool_choice: honoured(
    'Anthropic',
    toolChoice,
    'default `auto`; `any` and `tool` = the answer is held to calls, with input of their schema',
    inside(toolChoiceFields),
  ),
  thinking: honoured('Anthropic', thinking, 'see below', inside(thinkingFields)),
  output_config: honoured(
    'Anthropic',
    z.object({ format: format.optional(), effort: outputConfigFields.effort.schema.optional() }),
    'see below',
    inside(outputConfigFields),
  ),
  output_format: honoured('Anthropic', format, 'the older form of `output_config.format`', inside(outputFormatFields)),
} satisfies FieldTable;

interface Asked {
  readonly tools?: readonly z.infer<typeof tool>[] | undefined;
  readonly tool_choice?: z.infer<typeof toolChoice> | undefined;
  readonly thinking?: z.infer<typeof thinking> | undefined;
  readonly output_config?:
    | { format?: z.infer<typeof format> | undefined; effort?: AskedEffort['level'] | undefined }
    | undefined;
  readonly output_format?: z.infer<typeof format> | undefined;
}

/** @throws {ApiError} 400 naming what is wrong with the tools or the choice among them. */
export function anthropicToolUse({ tools = [], tool_choice: asked }: Asked): ToolUse | null {
  const { type = 'auto', name, disable_parallel_tool_use: single = false } = asked ?? {};
  if (type === 'tool' && name === undefined) throw mustBe('tool_choice.name', 'one of the tools', name);
  const choice = type === 'any' ? 'required' : type === 'tool' ? { name: name ?? '' } : type;
  const all = tools.map(({ name: own, description = null, input_schema: parameters }) => ({
    name: own,
    description,
    parameters,
  }));
  return toToolUse({ tools: all, choice, parallel: !single });
}

export function anthropicEffort({ thinking: asked, output_config: config }: Asked): AskedEffort | null {
  if (asked?.type === 'disabled') return { level: 'none', field: 'thinking' };
  if (config?.effort !== undefined) return { level: config.effort, field: 'output_config.effort' };
  return asked?.type === 'enabled' ? { level: 'medium', field: 'thinking' } : null;
}

/** @throws {ApiError} 400 where both fields are given. */
export function anthropicJson({ output_config: config, output_format: older }: Asked): AnswerJson | null {
  if (config?.format !== undefined && older !== undefined) {
    throw mustBe('output_format', 'left out beside output_config.format', older);
  }
  if (older !== undefined) return { schema: older.schema, field: 'output_format' };
  return config?.format === undefined ? null : { schema: config.format.schema, field: 'output_config.format' };
}
