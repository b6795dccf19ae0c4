/**
 * What a request's value should have been and what it is, as one sentence: the only place that turns zod's issues into words. What is
 * expected is read from the whole schema of the field, not from the first rule that it breaks.
 */
import { z } from 'zod';
import { ApiError } from './api-error.js';
import { shortened } from './shortened.js';

type Path = readonly PropertyKey[];
type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Returns the error about the first value in `json` that `schema` refuses. */
export function invalidValue(schema: z.ZodType, json: unknown, issue: z.core.$ZodIssue): ApiError {
  const path = deepestPath(issue);
  const actual = path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null)?.[key], json);
  const field = path.reduce<JsonSchema | null>(fieldOf, jsonSchemaOf(schema));
  return mustBe(pathName(path), field === null ? 'something else' : expectation(field), actual);
}

/** Of each schema once: it takes milliseconds. */
const jsonSchemas = new WeakMap<z.ZodType, JsonSchema>();

function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const known = jsonSchemas.get(schema) ?? (z.toJSONSchema(schema) as JsonSchema);
  jsonSchemas.set(schema, known);
  return known;
}

/** @param param the field's name; '' for the whole body. */
export function mustBe(param: string, expected: string, actual: unknown): ApiError {
  const name = param === '' ? 'the body' : `'${param}'`;
  return new ApiError(400, `${name} must be ${expected}, got ${shown(actual)}`, {
    param: param === '' ? null : param,
    code: actual === undefined ? 'missing_required_parameter' : 'invalid_value',
  });
}

/** Follows a union into the branch that got furthest: `messages[0].content[1].type` is at fault, not `messages[0].content`. */
function deepestPath(issue: z.core.$ZodIssue): Path {
  const branches = issue.code === 'invalid_union' ? issue.errors.map(([first]) => first) : [];
  const further = branches.find((one) => one !== undefined && one.path.length > 0);
  return further === undefined ? issue.path : [...issue.path, ...deepestPath(further)];
}

/** The schema of a field of an object, or of an item of a list. */
function fieldOf(schema: JsonSchema | null, key: PropertyKey): JsonSchema | null {
  if (schema === null) return null;
  const { properties, additionalProperties, items, anyOf } = schema;
  const own = typeof key === 'number' ? items : (properties?.[String(key)] ?? additionalProperties);
  if (typeof own === 'object') return own as JsonSchema;
  for (const branch of anyOf ?? []) {
    const found = fieldOf(branch as JsonSchema, key);
    if (found !== null) return found;
  }
  return null;
}

function expectation(schema: JsonSchema): string {
  const { anyOf, minItems = 0, maxItems, minLength = 0 } = schema;
  if (anyOf !== undefined) {
    const branches = (anyOf as JsonSchema[]).filter((branch) => branch.type !== 'null');
    return branches.map(expectation).join(', or ');
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
  const type = [schema.type].flat().find((one) => one !== 'null'); // null counts as absent
  if (type === 'string' && schema.pattern !== undefined) return `a text that matches ${schema.pattern}`;
  if (type === 'string') return minLength > 0 ? 'a text that is not empty' : 'a text';
  if (type === 'boolean') return 'true or false';
  if (type === 'integer') return `an integer${bounds(schema)}`;
  if (type === 'number') return `a number${bounds(schema)}`;
  if (type === 'object') return 'an object';
  if (type !== 'array') return 'something else';
  const { type: itemType, minLength: itemLength = 0 } = (schema.items ?? {}) as JsonSchema;
  const items = { string: 'texts', object: 'objects' }[String(itemType)] ?? 'values';
  const count = minItems > 0 ? `at least ${minItems} ` : maxItems === undefined ? '' : `at most ${maxItems} `;
  return `a list of ${count}${count.endsWith(' 1 ') ? items.slice(0, -1) : items}${itemLength > 0 ? ', none empty' : ''}`;
}

function bounds({ minimum, maximum, exclusiveMinimum }: JsonSchema): string {
  const least = minimum === undefined || minimum === Number.MIN_SAFE_INTEGER ? null : minimum;
  const most = maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? null : maximum;
  if (exclusiveMinimum !== undefined) return ` above ${exclusiveMinimum}${most === null ? '' : ` and at most ${most}`}`;
  if (least !== null && most !== null) return ` from ${least} to ${most}`;
  if (least !== null) return ` of at least ${least}`;
  return most === null ? '' : ` of at most ${most}`;
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return JSON.stringify(shortened(value));
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

function pathName(path: Path): string {
  return path.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name === '' ? String(key) : `${name}.${String(key)}`),
    '',
  );
}
