/**
 * A JSON schema whose formatted strings end. A time may have any number of digits behind its second, and a small model that has begun to write
 * digits writes them until its tokens are used up: the answer is then no JSON.
 */

export type JsonSchema = Readonly<Record<string, unknown>>;

/** Characters of the longest string that anybody needs; formats that are not here have an end of their own, or are a text that the model ends. */
const longest: Readonly<Record<string, number>> = {
  time: 24, // 23:59:59.123456789+00:00
  'date-time': 35,
  duration: 40,
  email: 254, // RFC 5321
  hostname: 253, // RFC 1035
};

/** Keywords with schemas by name. */
const byName: ReadonlySet<string> = new Set([
  'properties',
  'patternProperties',
  '$defs',
  'definitions',
  'dependentSchemas',
]);

/** Keywords with values that are no schemas. */
const values: ReadonlySet<string> = new Set(['enum', 'const', 'default', 'examples']);

/** Returns the schema with a `maxLength` for each string of such a format that has none. */
export function boundedSchema(schema: JsonSchema): JsonSchema {
  return bounded(schema) as JsonSchema;
}

function bounded(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(bounded);
  if (!isObject(schema)) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([keyword, value]) => [keyword, inside(keyword, value)]));
  const { format, minLength = 0, maxLength } = schema;
  const most = typeof format === 'string' && Object.hasOwn(longest, format) ? longest[format]! : null;
  return most === null || maxLength !== undefined || (minLength as number) > most ? copy : { ...copy, maxLength: most };
}

function inside(keyword: string, value: unknown): unknown {
  if (values.has(keyword)) return value;
  if (!byName.has(keyword) || !isObject(value)) return bounded(value);
  return Object.fromEntries(Object.entries(value).map(([name, schema]) => [name, bounded(schema)]));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
