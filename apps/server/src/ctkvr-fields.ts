/** Our own field of requests: how the keys and values of one answer are kept and read. It goes before what the server was started with. */
import {
  CtkvrError,
  type KvFormat,
  kvFormats,
  type PresetName,
  presetNames,
  resolveSelectorOptions,
  type SelectorOptions,
} from '@ctkvr/core';
import { z } from 'zod';
import { ApiError } from './api-error.js';
import { type FieldTable, honoured, inside, schemaOf, type Values } from './field-rules.js';

export const ctkvrFields = {
  preset: honoured('CTkvr', z.enum(presetNames), 'a named set of the selector’s options'),
  selector: honoured(
    'CTkvr',
    z.record(z.string(), z.unknown()),
    'options of the selector, under the names that the library has; those that are left out are as the server has them, or the preset',
  ),
  kvFormat: honoured('CTkvr', z.enum(kvFormats), 'how keys and values are stored'),
} satisfies FieldTable;

/** Letters of a reason that are shown: it repeats what the client sent. */
const MAX_SHOWN = 300;

type CtkvrValues = Values<typeof ctkvrFields, never>;

export const extensionFields = {
  ctkvr: honoured(
    'CTkvr',
    schemaOf(ctkvrFields, []),
    'how keys and values are kept and read; see below',
    inside(ctkvrFields),
  ),
} satisfies FieldTable;

/** Of chat completions. */
export const chatCtkvrFields = {
  ...ctkvrFields,
  read_map: honoured(
    'CTkvr',
    z.boolean(),
    'default false; true = also tell which passages of 32 tokens were read, by their share of the attention',
  ),
} satisfies FieldTable;

export const chatExtensionFields = {
  ctkvr: honoured(
    'CTkvr',
    schemaOf(chatCtkvrFields, []),
    'how keys and values are kept and read, and what is told of it; see below',
    inside(chatCtkvrFields),
  ),
} satisfies FieldTable;

/** What a request changes of how its session keeps and reads keys and values. */
export interface SessionChanges {
  readonly kvFormat?: KvFormat | undefined;
  readonly selector?: (Partial<SelectorOptions> & { readonly preset?: PresetName }) | undefined;
}

/** @throws {ApiError} 400 naming an option that there is not, or its value. */
export function toSessionChanges({ preset, selector: given, kvFormat }: CtkvrValues = {}): SessionChanges {
  const options = Object.entries(given ?? {}).filter(([, value]) => value !== null); // counts as absent
  const selector = { ...Object.fromEntries(options), ...(preset === undefined ? {} : { preset }) };
  try {
    if (given !== undefined && Object.hasOwn(given, 'preset')) {
      throw new CtkvrError('CTKVR_INVALID_OPTION', 'the preset is a field of its own, ctkvr.preset');
    }
    resolveSelectorOptions(selector);
  } catch (error) {
    if (!CtkvrError.isInstance(error)) throw error;
    throw new ApiError(400, `'ctkvr.selector' cannot be honoured: ${error.message.slice(0, MAX_SHOWN)}`, {
      param: 'ctkvr.selector',
      code: 'invalid_value',
      cause: error,
    });
  }
  return {
    ...(kvFormat === undefined ? {} : { kvFormat }),
    ...(Object.keys(selector).length === 0 ? {} : { selector }),
  };
}

/** A preset begins anew; single options change what the server has. */
export function changedSession<T extends SessionChanges>(server: T, { kvFormat, selector }: SessionChanges): T {
  const base = selector?.preset === undefined ? server.selector : {};
  return {
    ...server,
    ...(kvFormat === undefined ? {} : { kvFormat }),
    ...(selector === undefined ? {} : { selector: { ...base, ...selector } }),
  };
}
