/**
 * One process at a time per file: the lock is a folder beside the file whose modification time its holder refreshes (proper-lockfile), so
 * the lock of a process that died is recovered after `STALE_MS`, whatever machine or container it ran in.
 */
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { checkOptions, takes } from '@ctkvr/core';
import { abortedError, cacheFileError, throwIfAborted } from './file-errors.js';

/** A holder refreshes its lock every third of this; a lock that was not refreshed for this long belongs to a dead process. */
const STALE_MS = 10_000;
const RETRY_MS = 250;

const optionChecks = {
  signal: takes.optional(takes.abortSignal),
  onWait: takes.optional(takes.func),
  staleMs: takes.optional(takes.number(0, 0x7fff_ffff)),
};

/**
 * Runs `action` while holding the lock of `path` (its folder is made when missing) and returns its result.
 * `onWait` is called each time the lock is found taken, about four times a second.
 * @throws {CtkvrError} CTKVR_ABORTED when `signal` fires while waiting; CTKVR_FILE_UNREADABLE or CTKVR_DISK_FULL when no lock can be made.
 */
export async function withFileLock<T>(
  path: string,
  options: {
    readonly signal?: AbortSignal | undefined;
    readonly onWait?: (() => void) | undefined;
    readonly staleMs?: number;
  },
  action: () => Promise<T>,
): Promise<T> {
  checkOptions('withFileLock', options, optionChecks);
  const release = await acquire(path, options);
  try {
    return await action();
  } finally {
    // A lock that went stale (a suspended laptop) may have been taken over meanwhile: nothing is left to release then.
    await release().catch(() => {});
  }
}

/**
 * proper-lockfile comes only when a lock is needed, since loading it listens to every signal that ends a process (signal-exit). SIGXFSZ is
 * none in Node.js, which ignores it, so that a write beyond `ulimit -f` is an error: as long as somebody else listens too, it stays one.
 */
async function loadLocks(): Promise<typeof import('proper-lockfile')> {
  if (process.platform !== 'win32' && !process.listeners('SIGXFSZ').includes(onFileTooLarge)) {
    process.on('SIGXFSZ', onFileTooLarge);
  }
  return (await import('proper-lockfile')).default;
}

function onFileTooLarge(): void {}

async function acquire(path: string, options: Parameters<typeof withFileLock>[1]): Promise<() => Promise<void>> {
  const { signal, onWait, staleMs = STALE_MS } = options;
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (cause) {
    throw cacheFileError(dirname(path), cause);
  }
  for (;;) {
    throwIfAborted(signal, `waiting for ${path}`);
    try {
      // The result is checked by hash and renamed into place at the end, so a compromised lock costs work, never a wrong file.
      const { lock } = await loadLocks();
      return await lock(path, { realpath: false, stale: staleMs, onCompromised: () => {} });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ELOCKED') throw cacheFileError(`${path}.lock`, cause);
    }
    onWait?.();
    await delay(RETRY_MS, undefined, signal ? { signal } : {}).catch((cause) => {
      throw abortedError(`waiting for ${path}`, cause);
    });
  }
}
