/** The streams a command talks to. Answers and data go to stdout; progress, statistics and errors to stderr. */
import type { Readable, Writable } from 'node:stream';
import { CtkvrError } from '@ctkvr/core';

export interface ConsoleIo {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly env: NodeJS.ProcessEnv;
}

/** Writes to stdout and waits when its reader is slower than we are. @throws {CtkvrError} as `outputError` says; EPIPE as it is. */
export async function print(io: ConsoleIo, text: string): Promise<void> {
  await write(io.stdout, 'standard output', text);
}

export async function printJson(io: ConsoleIo, value: unknown): Promise<void> {
  await print(io, `${JSON.stringify(value, null, 2)}\n`);
}

/** Writes one line to stderr. */
export async function note(io: ConsoleIo, line: string): Promise<void> {
  await write(io.stderr, 'standard error', `${line}\n`);
}

/** Returns what to tell about an output that could not be written. A reader that has gone (EPIPE) is no error to tell about. */
export function outputError(output: string, cause: NodeJS.ErrnoException): Error {
  if (cause.code === 'EPIPE') return cause;
  const isFull = cause.code === 'ENOSPC' || cause.code === 'EDQUOT';
  const why = isFull ? 'its device is full; free some space' : `${cause.code ?? cause.message}; check where it goes`;
  return new CtkvrError(isFull ? 'CTKVR_DISK_FULL' : 'CTKVR_OUTPUT_FAILED', `${output} could not be written: ${why}`, {
    fields: { output, reason: cause.code ?? cause.message },
    cause,
  });
}

function write(stream: Writable, output: string, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => (error ? reject(outputError(output, error)) : resolve()));
  });
}
