/** Checks the fields of a request against their table (field-rules.ts), and their values against its schema. */
import { isDeepStrictEqual } from 'node:util';
import { nearestName } from '@ctkvr/core';
import type { z } from 'zod';
import { ApiError } from './api-error.js';
import type { FieldTable, InnerTable } from './field-rules.js';
import { invalidValue } from './invalid-value.js';
import { shortened } from './shortened.js';

/** Returns the honoured values of a body. @throws {ApiError} 400 naming the first field that is refused, unknown or wrong. */
export function checkBody<S extends z.ZodType>(json: unknown, table: FieldTable, schema: S): z.infer<S> {
  const given = isObject(json) ? checkFields(json, table) : json;
  const parsed = schema.safeParse(given);
  if (!parsed.success) throw invalidValue(schema, given, parsed.error.issues[0]!);
  return parsed.data;
}

/**
 * Returns the honoured fields that are given, at every depth, their values not yet checked; null counts as absent.
 * @param path prefix of the fields' names in errors, such as `messages[0].`
 */
function checkFields(given: object, table: FieldTable, path = ''): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === null) continue;
    const rule = Object.hasOwn(table, name) ? table[name] : undefined;
    if (rule === undefined) throw unknownField(name, table, path);
    if (rule.treatment === 'honoured') {
      kept[name] = rule.inner === null ? value : checkInner(value, rule.inner, path + name);
    }
    if (rule.treatment === 'refused' && !rule.off.some((off) => isDeepStrictEqual(off, value))) {
      throw refusedField(`${path}${name}`, rule);
    }
  }
  return kept;
}

/** What has not even the right shape is left for the schema to name. */
function checkInner(value: unknown, { isList, tableOf }: InnerTable, path: string): unknown {
  const check = (item: unknown, at: string) => {
    const table = isObject(item) ? tableOf(item) : null;
    return table === null ? item : checkFields(item as object, table, `${at}.`);
  };
  if (!isList) return check(value, path);
  return Array.isArray(value) ? value.map((item, index) => check(item, `${path}[${index}]`)) : value;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refusedField(param: string, { note, off }: { note: string; off: readonly unknown[] }): ApiError {
  const instead = off.length === 0 ? '' : ` or send ${off.map((value) => JSON.stringify(value)).join(' or ')}`;
  return new ApiError(400, `'${param}' cannot be honoured: ${note}. Leave it out${instead}.`, {
    param,
    code: 'unsupported_parameter',
  });
}

function unknownField(name: string, table: FieldTable, path: string): ApiError {
  const honoured = Object.keys(table).filter((known) => table[known]?.treatment === 'honoured');
  const shown = shortened(name);
  const nearest = nearestName(shown, honoured);
  const remedy =
    nearest === null ? `The fields honoured here are ${honoured.join(', ')}.` : `Did you mean '${path}${nearest}'?`;
  return new ApiError(400, `'${path}${shown}' is not a field of this request. ${remedy}`, {
    param: `${path}${shown}`,
    code: 'unknown_parameter',
  });
}
