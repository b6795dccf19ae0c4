/** A configuration file: a JSON object with a command's options under their names in camel case, such as `maxRunning`. */
import { readFile } from 'node:fs/promises';
import { CtkvrError } from '@ctkvr/core';

/** @throws {CtkvrError} CTKVR_FILE_NOT_FOUND, CTKVR_FILE_UNREADABLE when it holds no JSON object. */
export async function readConfigFile(path: string): Promise<Readonly<Record<string, unknown>>> {
  const content = parse(path, await readText(path));
  if (isRecord(content)) return content;
  throw unreadable(path, 'it must be a JSON object');
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw unreadable(path, message, cause);
    throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `there is no file ${path}`, { fields: { path }, cause });
  }
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable(path, (cause as Error).message, cause);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unreadable(path: string, why: string, cause?: unknown): CtkvrError {
  const message = `the configuration ${path} cannot be read: ${why}`;
  return new CtkvrError('CTKVR_FILE_UNREADABLE', message, { fields: { path }, cause });
}
