/**
 * What becomes of a request's field: it is honoured; ignored, when no answer can differ by it; or refused by name, but for the values that
 * mean the same as leaving it out. Each protocol has tables of these; the checks (check-fields.ts), the types of what is checked and the
 * page request-fields.md are all made from them.
 */
import { z } from 'zod';

export type FieldSource = 'OpenAI' | 'Anthropic' | 'vLLM' | 'llama.cpp' | 'CTkvr' | 'others';

interface Described {
  /** Who documents it, the first of the above when several do. */
  readonly source: FieldSource;
  /** One line for the page; of a refused field also the error's remedy. */
  readonly note: string;
}

/** The fields inside a field. */
export interface InnerTable {
  /** Whether the field is a list of objects with these fields, or one. */
  readonly isList: boolean;
  /** Returns the table of an object's fields; null leaves the object to the schema. */
  readonly tableOf: (value: object) => FieldTable | null;
}

export interface HonouredField<T extends z.ZodType = z.ZodType> extends Described {
  readonly treatment: 'honoured';
  /** Accepted values; null counts as absent and never comes here. */
  readonly schema: T;
  readonly inner: InnerTable | null;
}

export interface IgnoredField extends Described {
  readonly treatment: 'ignored';
}

export interface RefusedField extends Described {
  readonly treatment: 'refused';
  /** JSON values that mean the same as leaving the field out. */
  readonly off: readonly unknown[];
}

export type FieldRule = HonouredField | IgnoredField | RefusedField;
export type FieldTable = Readonly<Record<string, FieldRule>>;

export function honoured<T extends z.ZodType>(
  source: FieldSource,
  schema: T,
  note: string,
  inner: InnerTable | null = null,
): HonouredField<T> {
  return { treatment: 'honoured', source, schema, note, inner };
}

export function ignored(source: FieldSource, note: string): IgnoredField {
  return { treatment: 'ignored', source, note };
}

export function refused(source: FieldSource, off: readonly unknown[], note: string): RefusedField {
  return { treatment: 'refused', source, off, note };
}

/** The fields of the object that a field is. */
export function inside(table: FieldTable): InnerTable {
  return { isList: false, tableOf: () => table };
}

/** The fields of each object of the list that a field is. */
export function each(tableOf: InnerTable['tableOf']): InnerTable {
  return { isList: true, tableOf };
}

type HonouredName<T> = { [K in keyof T]: T[K] extends HonouredField ? K : never }[keyof T];
type ValueOf<Rule> = Rule extends HonouredField<infer S> ? z.infer<S> : never;

/** The honoured values of an object with the fields of `T`. */
export type Values<T extends FieldTable, Required extends keyof T> = {
  readonly [K in HonouredName<T> & Required]: ValueOf<T[K]>;
} & { readonly [K in Exclude<HonouredName<T>, Required>]?: ValueOf<T[K]> | undefined };

/** Returns what checks the honoured fields of an object without nulls. */
export function schemaOf<T extends FieldTable, R extends HonouredName<T> & string>(
  table: T,
  required: readonly R[],
): z.ZodType<Values<T, R>> {
  const names: readonly string[] = required;
  const shape = Object.entries(table).flatMap(([name, rule]) =>
    rule.treatment === 'honoured' ? [[name, names.includes(name) ? rule.schema : rule.schema.optional()]] : [],
  );
  return z.object(Object.fromEntries(shape)) as unknown as z.ZodType<Values<T, R>>;
}
