/** Fields by which OpenAI's two protocols name tools and the form of an answer, and what the engine is asked for by them. */
import { z } from 'zod';
import { each, type FieldTable, honoured, ignored, inside } from '../field-rules.js';
import type { AnswerJson } from '../generation-request.js';
import { mustBe } from '../invalid-value.js';
import type { Tool } from './tool-use.js';

/** As OpenAI's and Anthropic's references bound it; it stands in grammars and prompts. */
export const toolName = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);

export const jsonObject = z.record(z.string(), z.unknown());

const strict = ignored('OpenAI', 'calls that have to come are held to the schema, others never');

/** Fields of what a tool is. */
export const toolFunctionFields = {
  name: honoured('OpenAI', toolName, 'letters, digits, `_` and `-`'),
  description: honoured('OpenAI', z.string(), 'shown to the model'),
  parameters: honoured('OpenAI', jsonObject, 'a JSON schema of an object; default: no arguments'),
  strict,
} satisfies FieldTable;

const toolFunction = z.object({
  name: toolName,
  description: toolFunctionFields.description.schema.optional(),
  parameters: jsonObject.optional(),
});

type ToolFunction = z.infer<typeof toolFunction>;

/** Fields of a tool of a chat completion. */
export const toolFields = {
  type: honoured('OpenAI', z.literal('function'), 'only `function`'),
  function: honoured('OpenAI', toolFunction, 'see below', inside(toolFunctionFields)),
} satisfies FieldTable;

/** Of a tool of another kind the kind is at fault, not the fields that come with it. */
const ofFunctions = (table: FieldTable) => each((tool) => ('type' in tool && tool.type !== 'function' ? null : table));

export const parallelField = honoured('OpenAI', z.boolean(), 'default true; false = one call at most');

const choices = z.enum(['none', 'auto', 'required']);
const functionType = z.literal('function');

export const chatToolFields = {
  tools: honoured(
    'OpenAI',
    z.array(z.object({ type: functionType, function: toolFunction })),
    'shown to the model by its chat template, or as text where that knows no tools; see below',
    ofFunctions(toolFields),
  ),
  tool_choice: honoured(
    'OpenAI',
    z.union([choices, z.object({ type: functionType, function: z.object({ name: z.string() }) })]),
    'default `auto`; `required`, or one tool = the answer is held to calls, with arguments of their schema',
  ),
  parallel_tool_calls: parallelField,
} satisfies FieldTable;

/** Fields of a tool of a response. */
export const responseToolFields = {
  type: honoured('OpenAI', functionType, 'only `function`'),
  ...toolFunctionFields,
} satisfies FieldTable;

export const responseToolsFields = {
  tools: honoured(
    'OpenAI',
    z.array(z.object({ type: functionType, ...toolFunction.shape })),
    'shown to the model by its chat template, or as text where that knows no tools; see below',
    ofFunctions(responseToolFields),
  ),
  tool_choice: honoured(
    'OpenAI',
    z.union([choices, z.object({ type: functionType, name: z.string() })]),
    'default `auto`; `required`, or one tool = the answer is held to calls, with arguments of their schema',
  ),
  parallel_tool_calls: parallelField,
} satisfies FieldTable;

export function toTool({ name, description, parameters }: ToolFunction): Tool {
  return { name, description: description ?? null, parameters: parameters ?? { type: 'object', properties: {} } };
}

/** Fields of `response_format.json_schema`. */
export const jsonSchemaFields = {
  schema: honoured('OpenAI', jsonObject, 'a JSON schema of supported keywords; another is refused with its name'),
  name: ignored('OpenAI', 'a label'),
  description: ignored('OpenAI', 'models are not shown the schema: say in a message what is wanted'),
  strict: ignored('OpenAI', 'answers are always held to the schema'),
} satisfies FieldTable;

const formType = honoured('OpenAI', z.enum(['text', 'json_object', 'json_schema']), '');

const jsonSchema = z.object({ schema: jsonObject });

/** Fields of `response_format`. */
export const responseFormatFields = {
  type: formType,
  json_schema: honoured('OpenAI', jsonSchema, 'with the type `json_schema`', inside(jsonSchemaFields)),
} satisfies FieldTable;

/** Fields of `text.format`. */
export const textFormatFields = { type: formType, ...jsonSchemaFields } satisfies FieldTable;

export const responseFormatField = honoured(
  'OpenAI',
  z.object({ type: formType.schema, json_schema: jsonSchema.optional() }),
  'the answer is held to it: `json_object` = any JSON object; see below',
  inside(responseFormatFields),
);

export const textFormatField = honoured(
  'OpenAI',
  z.object({ type: formType.schema, schema: jsonObject.optional() }),
  'the answer is held to it: `json_object` = any JSON object; see below',
  inside(textFormatFields),
);

/** Of `response_format`. @throws {ApiError} as `toAnswerJson`. */
export function formatJson(form: z.infer<typeof responseFormatField.schema> | undefined): AnswerJson | null {
  const path = form?.type === 'json_schema' ? 'response_format.json_schema' : 'response_format';
  return toAnswerJson(form?.type, form?.json_schema?.schema, path);
}

/** @param path of the form. @throws {ApiError} 400 for a form without its schema. */
export function toAnswerJson(
  type: z.infer<typeof formType.schema> | undefined,
  schema: AnswerJson['schema'] | undefined,
  path: string,
): AnswerJson | null {
  if (type === undefined || type === 'text') return null;
  if (type === 'json_object') return { schema: { type: 'object' }, field: path };
  if (schema === undefined) throw mustBe(path, 'a JSON schema', schema);
  return { schema, field: path };
}
