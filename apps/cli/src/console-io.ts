/** The streams a command talks to. Answers and data go to stdout; progress, statistics and errors to stderr. */
import type { Readable, Writable } from 'node:stream';

export interface ConsoleIo {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly env: NodeJS.ProcessEnv;
}

/** Writes to stdout and waits when its reader is slower than we are. Rejects when the reader has gone. */
export async function print(io: ConsoleIo, text: string): Promise<void> {
  await write(io.stdout, text);
}

export async function printJson(io: ConsoleIo, value: unknown): Promise<void> {
  await print(io, `${JSON.stringify(value, null, 2)}\n`);
}

/** Writes one line to stderr. */
export async function note(io: ConsoleIo, line: string): Promise<void> {
  await write(io.stderr, `${line}\n`);
}

function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => (error ? reject(error) : resolve()));
  });
}
