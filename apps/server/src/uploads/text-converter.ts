/**
 * Makes text of HTML, PDF and archives, in a process for each file, within bounds of time, memory and output: they are written by strangers, and
 * small ones can unfold without end. One process at a time.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ApiError } from '../api-error.js';
import { decodeUtf8 } from './decode-utf8.js';
import type { UploadKind } from './upload-kind.js';

export interface Conversion {
  readonly kind: Exclude<UploadKind, 'text'>;
  readonly file: readonly Uint8Array[];
  /** Bytes of the text, in UTF-8. */
  readonly maxTextBytes: number;
  readonly signal: AbortSignal;
}

export interface ConversionLimits {
  readonly timeMs: number;
  /** Of the process. */
  readonly memoryBytes: number;
}

/** A PDF of a thousand pages takes some ten seconds. */
const defaultLimits: ConversionLimits = { timeMs: 60_000, memoryBytes: 2 ** 30 };
/** Letters of a reason that a client is shown. */
const MAX_REASON_LENGTH = 300;

const processEntry = fileURLToPath(new URL('./conversion-process.js', import.meta.url));

export class TextConverter {
  /** Settles when the conversion before has ended. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #limits: ConversionLimits;

  constructor(limits: ConversionLimits = defaultLimits) {
    this.#limits = limits;
  }

  /** @throws {ApiError} 400 for a file that is damaged, locked or without text; 413 when a limit ends it; the reason of `signal`. */
  convert(conversion: Conversion): Promise<string> {
    const result = this.#turn.then(() => convert(conversion, this.#limits));
    this.#turn = result.catch(() => {});
    return result;
  }
}

async function convert({ kind, file, maxTextBytes, signal }: Conversion, limits: ConversionLimits): Promise<string> {
  signal.throwIfAborted();
  const { PATH, LD_LIBRARY_PATH, DYLD_LIBRARY_PATH, SystemRoot } = process.env;
  const { timeMs, memoryBytes } = limits;
  const heapMib = Math.ceil(memoryBytes / 2 ** 20);
  const child = spawn(process.execPath, [`--max-old-space-size=${heapMib}`, processEntry, kind, String(memoryBytes)], {
    env: { PATH, LD_LIBRARY_PATH, DYLD_LIBRARY_PATH, SystemRoot }, // a stranger's file must not see the program's environment
    stdio: 'pipe',
    signal,
    killSignal: 'SIGKILL',
  });
  let limit: string | null = null;
  const stop = (why: string) => {
    limit ??= why;
    child.kill('SIGKILL');
  };
  const overdue = setTimeout(() => stop(`it took more than ${timeMs / 1000} s`), timeMs);
  const pieces: Uint8Array[] = [];
  let numBytes = 0;
  let reason = '';
  child.stdout.on('data', (piece: Uint8Array) => {
    numBytes += piece.length;
    if (numBytes > maxTextBytes) stop(`its text is longer than ${maxTextBytes} bytes`);
    else pieces.push(piece);
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    reason = (reason + piece).slice(0, MAX_REASON_LENGTH);
  });
  child.stdin.on('error', () => {}); // it may end before it has read all
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', (error) => (signal.aborted ? reject(signal.reason) : reject(error)));
    child.on('close', resolve);
  });
  for (const piece of file) child.stdin.write(piece);
  child.stdin.end();
  const exitCode = await ended.finally(() => clearTimeout(overdue));
  signal.throwIfAborted();
  if (limit !== null) throw tooMuch(kind, limit);
  if (exitCode === 1) throw badFile(kind, reason.trim());
  if (exitCode === 2) throw tooMuch(kind, reason.trim());
  if (exitCode !== 0) throw tooMuch(kind, `it ended its process, which may use ${heapMib} MiB of memory`);
  const text = decodeUtf8(pieces);
  if (text.trim() === '')
    throw badFile(kind, kind === 'pdf' ? 'it holds no text; images are not read' : 'it holds no text');
  return text;
}

function badFile(kind: string, reason: string): ApiError {
  const message = `'file' must be ${kind.toUpperCase()} with text in it: ${reason}`;
  return new ApiError(400, message, { param: 'file', code: 'invalid_value' });
}

function tooMuch(kind: string, reason: string): ApiError {
  const message = `'file' is ${kind.toUpperCase()} that was stopped while it was read: ${reason}`;
  return new ApiError(413, message, { param: 'file', code: 'request_too_large' });
}
