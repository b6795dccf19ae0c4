/** Checks the fields of an object against their table (request-fields.ts). */
import { isDeepStrictEqual } from 'node:util';
import { nearestName } from '@ctkvr/core';
import { ApiError } from './api-error.js';
import type { FieldTable } from './request-fields.js';

/** Letters of an unknown name that are looked at and shown; clients can send megabytes. */
const MAX_NAME = 60;

/**
 * Returns the honoured fields that are given, not yet checked; null counts as absent.
 * @param path prefix of the fields' names in errors, such as `messages[0].`
 * @throws {ApiError} 400 naming the first field that is refused or unknown.
 */
export function checkFields(given: object, table: FieldTable, path = ''): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === null) continue;
    const rule = Object.hasOwn(table, name) ? table[name] : undefined;
    if (rule === undefined) throw unknownField(name, table, path);
    if (rule.treatment === 'honoured') kept[name] = value;
    if (rule.treatment === 'refused' && !rule.off.some((off) => isDeepStrictEqual(off, value))) {
      throw refusedField(`${path}${name}`, rule);
    }
  }
  return kept;
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
  const shown = name.length > MAX_NAME ? `${name.slice(0, MAX_NAME)}…` : name;
  const nearest = nearestName(shown, honoured);
  const remedy =
    nearest === null ? `The fields honoured here are ${honoured.join(', ')}.` : `Did you mean '${path}${nearest}'?`;
  return new ApiError(400, `'${path}${shown}' is not a field of a chat completion request. ${remedy}`, {
    param: `${path}${shown}`,
    code: 'unknown_parameter',
  });
}
