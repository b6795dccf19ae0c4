/** Reads what a user wants to ask about: text files, or standard input for `-`. */
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { CtkvrError } from '@ctkvr/core';

/** No context of a model holds more text than this; a larger file is a mistake (a disk image, a log of years). */
const MAX_DOCUMENT_BYTES = 256 * 1024 * 1024;

/**
 * Returns the text of all files, in order, an empty line between two; each of several begins with a line that names it.
 * @throws {CtkvrError} CTKVR_FILE_NOT_FOUND; CTKVR_FILE_UNREADABLE for a folder, a missing permission, or bytes that are not UTF-8 text;
 * CTKVR_INVALID_OPTION for an empty document or `-` twice. An abort of `signal` rejects a wait for standard input.
 */
export async function readDocuments(
  files: readonly string[],
  { stdin, signal }: { readonly stdin: Readable; readonly signal: AbortSignal },
): Promise<string> {
  if (files.filter((file) => file === '-').length > 1) {
    throw new CtkvrError('CTKVR_INVALID_OPTION', '- (standard input) can be given once only', {
      fields: { option: 'file' },
    });
  }
  const texts: { name: string; text: string }[] = [];
  for (const file of files) {
    const name = file === '-' ? 'standard input' : file;
    const bytes = file === '-' ? await readAll(stdin, signal) : await readTextFile(file);
    const text = decodeText(bytes, name);
    if (text.trim() === '') {
      throw new CtkvrError('CTKVR_INVALID_OPTION', `${name} holds no text: there is nothing to ask about`, {
        fields: { file: name },
      });
    }
    texts.push({ name, text });
  }
  if (texts.length === 1) return texts[0]!.text;
  return texts.map(({ name, text }) => `${basename(name)}:\n${text}`).join('\n\n');
}

/** Returns `bytes` as text, a byte order mark taken off. @throws {CtkvrError} CTKVR_FILE_UNREADABLE when they are not UTF-8 text. */
export function decodeText(bytes: Uint8Array, name: string): string {
  const nul = bytes.indexOf(0);
  if (nul >= 0) throw notText(name, `a NUL byte at offset ${nul}`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw notText(name, 'bytes that are not UTF-8', cause);
  }
}

function notText(name: string, found: string, cause?: unknown): CtkvrError {
  return new CtkvrError(
    'CTKVR_FILE_UNREADABLE',
    `${name} is not a text file (${found}): give UTF-8 text, for example converted with iconv or pdftotext`,
    {
      fields: { file: name },
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

async function readTextFile(path: string): Promise<Uint8Array> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory()) {
      throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} is a folder: name the files in it`, {
        fields: { file: path },
      });
    }
    if (stats.size > MAX_DOCUMENT_BYTES) throw tooLong(path, stats.size);
    return await readFile(path);
  } catch (cause) {
    if (CtkvrError.isInstance(cause)) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `there is no file ${path}: check the path`, {
        fields: { file: path },
        cause,
      });
    }
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} cannot be read (${code}): check its permissions`, {
      fields: { file: path },
      cause,
    });
  }
}

async function readAll(stdin: Readable, signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of addAbortSignal(signal, stdin)) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : (chunk as Uint8Array);
    size += bytes.length;
    if (size > MAX_DOCUMENT_BYTES) throw tooLong('standard input', size);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

function tooLong(name: string, sizeBytes: number): CtkvrError {
  return new CtkvrError(
    'CTKVR_FILE_UNREADABLE',
    `${name} has ${sizeBytes} bytes, at most ${MAX_DOCUMENT_BYTES} are read: give a part of it`,
    {
      fields: { file: name, expected: MAX_DOCUMENT_BYTES, actual: sizeBytes },
    },
  );
}
