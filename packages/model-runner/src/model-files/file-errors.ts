/** Turns errors of the file system and of cancellation into CtkvrErrors that name the file and the remedy. */
import { statfs } from 'node:fs/promises';
import { CtkvrError } from '@ctkvr/core';

/** Returns the error a caller should see for `cause`, which was thrown while `path` was being written or read in the cache. */
export function cacheFileError(path: string, cause: unknown): CtkvrError {
  if (CtkvrError.isInstance(cause)) return cause;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const elsewhere = 'or set CTKVR_CACHE_DIR to a folder on another disk';
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new CtkvrError('CTKVR_DISK_FULL', `no space left for ${path}: free some, ${elsewhere}`, {
      fields: { path },
      cause,
    });
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new CtkvrError(
      'CTKVR_FILE_UNREADABLE',
      `${path} may not be written (${code}): correct its permissions, ${elsewhere}`,
      { fields: { path, errno: code }, cause },
    );
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} could not be written or read: ${reason}`, {
    fields: { path, errno: code ?? null },
    cause,
  });
}

/**
 * Resolves when the disk under `folder` (which must exist) has `sizeBytes` free for this user.
 * @throws {CtkvrError} CTKVR_DISK_FULL with both numbers. File systems that cannot tell are taken at their word later, when a write fails.
 */
export async function checkFreeSpace(folder: string, sizeBytes: number): Promise<void> {
  const stats = await statfs(folder).catch(() => null);
  if (stats === null || stats.blocks === 0) return;
  const availableBytes = stats.bavail * stats.bsize;
  if (availableBytes >= sizeBytes) return;
  throw new CtkvrError(
    'CTKVR_DISK_FULL',
    `${folder} has ${availableBytes} bytes free, ${sizeBytes} are needed: free some, or set CTKVR_CACHE_DIR to a folder on another disk`,
    { fields: { path: folder, expected: sizeBytes, actual: availableBytes } },
  );
}

/** Throws CTKVR_ABORTED when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw abortedError(what, signal.reason);
}

export function abortedError(what: string, cause?: unknown): CtkvrError {
  return new CtkvrError('CTKVR_ABORTED', `${what} was cancelled`, { cause });
}
