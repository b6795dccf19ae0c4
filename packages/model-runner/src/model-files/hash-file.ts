/** Hash of a file, streamed. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { checkOptions, takes } from '@ctkvr/core';
import { cacheFileError, throwIfAborted } from './file-errors.js';

/** What a file must hash to. */
export interface ExpectedHash {
  readonly algorithm: 'sha256' | 'sha512';
  /** Lower-case hexadecimal. */
  readonly hex: string;
}

const optionChecks = { onBytes: takes.optional(takes.func), signal: takes.optional(takes.abortSignal) };

export function sha256(hex: string): ExpectedHash {
  return { algorithm: 'sha256', hex };
}

/** Returns the hash of the file's bytes as lower-case hexadecimal. `onBytes` is called after each chunk. */
export async function hashFile(
  path: string,
  algorithm: ExpectedHash['algorithm'],
  options: { readonly onBytes?: (bytes: number) => void; readonly signal?: AbortSignal | undefined } = {},
): Promise<string> {
  checkOptions('hashFile', options, optionChecks);
  const hash = createHash(algorithm);
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      throwIfAborted(options.signal, `checking ${path}`);
      hash.update(chunk);
      options.onBytes?.(chunk.length);
    }
  } catch (cause) {
    throw cacheFileError(path, cause);
  }
  return hash.digest('hex');
}
