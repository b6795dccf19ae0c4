/** The JSON schema of a request's body, from the table of its fields and the schema that checks them. */
import { z } from 'zod';
import type { FieldRule, FieldTable } from '../field-rules.js';

export type JsonSchema = z.core.JSONSchema.BaseSchema;

/** @param schema of the honoured fields; says which of them are needed. */
export function bodySchema(table: FieldTable, schema: z.ZodType): JsonSchema {
  const { required = [] } = toJsonSchema(schema);
  const properties = Object.fromEntries(
    Object.entries(table).map(([name, rule]) => [name, propertySchema(rule, required.includes(name))]),
  );
  return { type: 'object', properties, required, additionalProperties: false };
}

/** What may be sent, without the note of its dialect, which an OpenAPI document has once. */
export function toJsonSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: 'input' }) as JsonSchema;
  return rest;
}

/** null counts as absent. */
function propertySchema(rule: FieldRule, isRequired: boolean): JsonSchema {
  const { note } = rule;
  if (rule.treatment === 'ignored') return { description: `Ignored: ${note}.` };
  if (rule.treatment === 'refused') return { description: `Refused: ${note}.`, enum: [...rule.off, null] as never };
  const schema = toJsonSchema(rule.schema);
  const described = note === '' ? {} : { description: note };
  return isRequired ? { ...schema, ...described } : { anyOf: [schema, { type: 'null' }], ...described };
}
