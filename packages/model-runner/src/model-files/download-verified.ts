/**
 * Downloads one file so that it either is there complete and checked, or is not there. Bytes go to `<destination>.part`; when the hash is
 * known beforehand, a broken or cancelled download is resumed from that file, by this process or a later one. Two processes that want
 * the same file take turns, and the second finds it done.
 */
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CtkvrError, checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import { type DownloadCallbacks, downloadCallbackChecks, progressMeter } from './download-progress.js';
import { abortedError, cacheFileError, checkFreeSpace, throwIfAborted } from './file-errors.js';
import { type ExpectedHash, hashFile } from './hash-file.js';
import { httpRequest, httpStatusError, unreachable, withoutCredentials } from './http-request.js';
import { withFileLock } from './with-file-lock.js';

/** Attempts in a row that bring no new byte before the download is given up. */
const MAX_FRUITLESS_ATTEMPTS = 4;
/** Wait before the second attempt; doubles with each further fruitless one. */
const RETRY_DELAY_MS = 500;
/** Statuses that may be gone at the next attempt: timeouts, too many requests, server errors. */
const TRANSIENT_STATUSES = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface DownloadRequest extends DownloadCallbacks {
  readonly url: string;
  /** Absolute path of the file to make. */
  readonly destination: string;
  /** Without it the file cannot be checked, and is never resumed. */
  readonly hash?: ExpectedHash | undefined;
  /** Size of the whole file, when known beforehand. */
  readonly sizeBytes?: number | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Remedy to print with an HTTP status that will not go away, such as 401. */
  readonly statusHint?: (status: number) => string | undefined;
  readonly retryDelayMs?: number;
}

const inputChecks: OptionChecks<DownloadRequest> = {
  ...downloadCallbackChecks,
  url: takes.text,
  destination: takes.text,
  hash: takes.optional(takes.object),
  sizeBytes: takes.optional(takes.integer(0, Number.MAX_SAFE_INTEGER)),
  headers: takes.optional(takes.object),
  statusHint: takes.optional(takes.func),
  retryDelayMs: takes.optional(takes.number(0, 0x7fff_ffff)),
};

/**
 * Resolves to `destination` once it holds the whole, checked file; at once when it already does (its size is looked at, not its hash).
 * @throws {CtkvrError} CTKVR_DOWNLOAD_FAILED (offline, HTTP status, connection broken again and again), CTKVR_CHECKSUM_MISMATCH (what the server
 * sends is another file), CTKVR_DISK_FULL, CTKVR_FILE_UNREADABLE (folder not writable), CTKVR_ABORTED.
 */
export async function downloadVerified(request: DownloadRequest): Promise<string> {
  checkOptions('downloadVerified', request, inputChecks);
  const { destination, sizeBytes, signal } = request;
  if (await isComplete(destination, sizeBytes)) return destination;
  const waiting = progressMeter(
    { phase: 'waiting', name: basename(destination), bytesTotal: null },
    request.onProgress,
  );
  await withFileLock(destination, { signal, onWait: () => waiting.finish() }, async () => {
    if (await isComplete(destination, sizeBytes)) return;
    await downloadLocked(request);
  });
  return destination;
}

/** Whether `path` is a file of the given size (of any size when unknown). Files get their final name only after they were checked. */
export async function isComplete(path: string, sizeBytes: number | undefined): Promise<boolean> {
  const stats = await stat(path).catch(() => null);
  return stats?.isFile() === true && (sizeBytes === undefined || stats.size === sizeBytes);
}

async function downloadLocked(request: DownloadRequest): Promise<void> {
  const { destination, hash, sizeBytes, signal, url } = request;
  const part = `${destination}.part`;
  const bytesFound = hash === undefined ? 0 : await sizeOf(part);
  await checkFreeSpace(dirname(destination), (sizeBytes ?? 0) - bytesFound);
  try {
    await fillPart(request, part, bytesFound);
    if (!(await matches(request, part))) {
      await rm(part, { force: true });
      // A resumed file may have had a wrong beginning; a file fetched in one go has not.
      if (bytesFound === 0) throw mismatch(url, destination);
      await fillPart(request, part, 0);
      if (!(await matches(request, part))) throw mismatch(url, destination);
    }
    throwIfAborted(signal, `the download of ${withoutCredentials(url)}`);
    await rename(part, destination);
  } catch (cause) {
    const error = cacheFileError(destination, cause);
    if (hash === undefined || error.code === 'CTKVR_CHECKSUM_MISMATCH') await rm(part, { force: true }).catch(() => {});
    throw error;
  }
}

/** Appends to `part` until it holds everything, over as many connections as that takes. */
async function fillPart(request: DownloadRequest, part: string, bytesFound: number): Promise<void> {
  const { retryDelayMs = RETRY_DELAY_MS, hash, signal, url } = request;
  let have = bytesFound;
  for (let fruitless = 0; ; ) {
    try {
      await receive(request, part, have);
      return;
    } catch (cause) {
      if (!(cause instanceof BrokenTransfer)) throw cause;
      const now = hash === undefined ? 0 : await sizeOf(part);
      fruitless = now > have ? 0 : fruitless + 1;
      have = now;
      if (fruitless >= MAX_FRUITLESS_ATTEMPTS) throw cause.error;
    }
    await delay(retryDelayMs * 2 ** fruitless, undefined, signal ? { signal } : {}).catch((cause) => {
      throw abortedError(`the download of ${withoutCredentials(url)}`, cause);
    });
  }
}

/** A failure that may be gone at the next attempt; `error` is what the caller sees otherwise. */
class BrokenTransfer extends Error {
  constructor(readonly error: CtkvrError) {
    super(error.message);
  }
}

/** One connection: writes the bytes from `have` on. @throws {BrokenTransfer} when it ends early. */
async function receive(request: DownloadRequest, part: string, have: number): Promise<void> {
  const { url, headers = {}, sizeBytes, signal, destination, statusHint } = request;
  if (sizeBytes !== undefined && have === sizeBytes) return;
  const range: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
  // identity: a transparent compression would make sizes and ranges meaningless.
  const response = await httpRequest({
    url,
    headers: { ...headers, 'accept-encoding': 'identity', ...range },
    signal,
  }).catch((cause) => {
    throw CtkvrError.isInstance(cause) && cause.code === 'CTKVR_DOWNLOAD_FAILED' ? new BrokenTransfer(cause) : cause;
  });
  if (response.status === 416) {
    // What is on disk is longer than the server's file: it belongs to something else.
    await response.body?.cancel();
    await rm(part, { force: true });
    throw new BrokenTransfer(httpStatusError(url, 416, 'the server has a shorter file than expected'));
  }
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    const error = httpStatusError(url, response.status, statusHint?.(response.status));
    throw TRANSIENT_STATUSES.has(response.status) ? new BrokenTransfer(error) : error;
  }
  const start = response.status === 206 ? rangeStart(response.headers.get('content-range')) : 0;
  if (start !== 0 && start !== have) {
    await response.body.cancel();
    await rm(part, { force: true });
    throw new BrokenTransfer(
      httpStatusError(url, 206, `the server sent bytes from ${start} on, ${have} were asked for`),
    );
  }
  const length = response.headers.get('content-length');
  const total = length === null ? null : start + Number(length);
  if (total !== null && sizeBytes !== undefined && total !== sizeBytes) {
    await response.body.cancel();
    throw mismatch(url, destination, { expected: sizeBytes, actual: total });
  }
  await mkdir(dirname(part), { recursive: true });
  const file = await open(part, start > 0 ? 'r+' : 'w');
  const meter = progressMeter(
    { phase: 'download', name: basename(destination), bytesTotal: total ?? sizeBytes ?? null, bytesAlreadyDone: start },
    request.onProgress,
  );
  try {
    let position = start;
    for await (const chunk of chunksOf(response, request)) {
      position = await writeAll(file, chunk, position);
      meter.add(chunk.length);
      if (sizeBytes !== undefined && position > sizeBytes)
        throw mismatch(url, destination, { expected: sizeBytes, actual: position });
    }
    const expected = total ?? sizeBytes;
    if (expected !== undefined && position < expected) {
      throw new BrokenTransfer(unreachable(url, new Error(`connection closed after ${position} of ${expected} bytes`)));
    }
    meter.finish();
    // A file is trusted by its size later on, so its bytes must be on the disk before it gets its name.
    await file.sync();
  } finally {
    await file.close();
  }
}

/** The body's chunks; a broken connection becomes a BrokenTransfer, which an error of the disk must not. */
async function* chunksOf(response: Response, request: DownloadRequest): AsyncGenerator<Uint8Array> {
  const reader = response.body!.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause) => {
        if (request.signal?.aborted) throw abortedError(`the download of ${withoutCredentials(request.url)}`, cause);
        throw new BrokenTransfer(unreachable(request.url, cause));
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function writeAll(file: Awaited<ReturnType<typeof open>>, chunk: Uint8Array, position: number): Promise<number> {
  let written = 0;
  while (written < chunk.length) {
    written += (await file.write(chunk, written, chunk.length - written, position + written)).bytesWritten;
  }
  return position + written;
}

async function matches(request: DownloadRequest, part: string): Promise<boolean> {
  const { hash, destination, onProgress, signal } = request;
  if (hash === undefined) return true;
  const meter = progressMeter(
    { phase: 'verify', name: basename(destination), bytesTotal: await sizeOf(part) },
    onProgress,
  );
  const actual = await hashFile(part, hash.algorithm, { onBytes: (bytes) => meter.add(bytes), signal });
  meter.finish();
  return actual === hash.hex;
}

function mismatch(url: string, destination: string, sizes?: { expected: number; actual: number }): CtkvrError {
  const detail = sizes
    ? `it has ${sizes.actual} bytes, expected ${sizes.expected}`
    : 'its hash differs from the expected one';
  return new CtkvrError(
    'CTKVR_CHECKSUM_MISMATCH',
    `${withoutCredentials(url)} is not the expected ${basename(destination)}: ${detail}. Nothing was kept; a proxy or mirror that alters or blocks files is the usual reason`,
    { fields: { url: withoutCredentials(url), ...sizes } },
  );
}

function rangeStart(contentRange: string | null): number {
  const match = /^bytes (\d+)-/.exec(contentRange ?? '');
  return match ? Number(match[1]) : 0;
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}
