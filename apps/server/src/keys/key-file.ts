/** A file of API keys: a JSON list of `{ "name", "sha256" }` with what else each may have. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { CtkvrError } from '@ctkvr/core';
import { type ApiKey, checkApiKeys } from './api-key.js';

/** @throws {CtkvrError} CTKVR_FILE_NOT_FOUND, CTKVR_FILE_UNREADABLE when it is no JSON, CTKVR_INVALID_OPTION when a key is not as it must be. */
export async function readApiKeys(path: string): Promise<readonly ApiKey[]> {
  const keys: readonly ApiKey[] = parse(path, await readText(path));
  try {
    checkApiKeys(keys);
  } catch (error) {
    if (!CtkvrError.isInstance(error)) throw error;
    throw new CtkvrError(error.code, `${path}: ${error.message}`, { fields: { ...error.fields, path }, cause: error });
  }
  return keys;
}

/** Puts one more key into the file, which is made where there is none. Whoever reads it meanwhile sees the old one or the new one. */
export async function addApiKey(path: string, entry: ApiKey): Promise<void> {
  const keys = await readApiKeys(path).catch((error: unknown) => {
    if (CtkvrError.isInstance(error) && error.code === 'CTKVR_FILE_NOT_FOUND') return [];
    throw error;
  });
  const all = [...keys, entry];
  checkApiKeys(all);
  const unfinished = `${path}.${process.pid}.part`;
  try {
    await writeFile(unfinished, `${JSON.stringify(all, null, 2)}\n`, { mode: 0o600 });
    await rename(unfinished, path);
  } catch (cause) {
    const { message } = cause as Error;
    throw new CtkvrError('CTKVR_OUTPUT_FAILED', `cannot write ${path}: ${message}`, { fields: { path }, cause });
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `there is no file ${path}`, { fields: { path }, cause });
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `cannot read ${path}: ${message}`, { fields: { path }, cause });
  }
}

function parse(path: string, text: string) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { message } = cause as Error;
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} must be JSON: ${message}`, { fields: { path }, cause });
  }
}
