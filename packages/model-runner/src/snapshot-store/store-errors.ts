/** What goes wrong with a store's files, as errors that name the file and the remedy. */
import { CtkvrError, selectorOptionNames } from '@ctkvr/core';

/** Returns what to throw for what was thrown while `path` was written; what the file system did not throw as it is. */
export function writeError(path: string, cause: unknown): unknown {
  const code = errnoOf(cause);
  if (code === null) return cause;
  const fields = { path, reason: code };
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new CtkvrError('CTKVR_DISK_FULL', `no space left for ${path}: free some`, { fields, cause });
  }
  const problem =
    code === 'EEXIST' ? 'it exists already: choose another name' : `${code}: check the path and its permissions`;
  return new CtkvrError('CTKVR_OUTPUT_FAILED', `${path} could not be written: ${problem}`, { fields, cause });
}

/** Returns what to throw for what the file system threw while `path` was read. */
export function readError(path: string, cause: unknown): CtkvrError {
  const reason = errnoOf(cause) ?? String(cause);
  const problem = `${path} could not be read: ${reason}: check the path and its permissions`;
  return new CtkvrError('CTKVR_FILE_UNREADABLE', problem, { fields: { path, reason }, cause });
}

/** The file system's code, such as ENOSPC; null for an error of another origin. */
function errnoOf(cause: unknown): string | null {
  if (CtkvrError.isInstance(cause)) return null;
  const { code, syscall } = (cause ?? {}) as NodeJS.ErrnoException;
  return typeof code === 'string' && typeof syscall === 'string' ? code : null;
}

export function noSnapshotError(key: string): CtkvrError {
  return new CtkvrError('CTKVR_FILE_NOT_FOUND', `the store has no snapshot ${key}`, { fields: { key } });
}

export function tooLargeError(of: {
  readonly key: string;
  readonly bytes: number;
  readonly maxBytes: number;
}): CtkvrError {
  const { key, bytes, maxBytes } = of;
  return new CtkvrError(
    'CTKVR_DISK_FULL',
    `the snapshot ${key} takes ${bytes} bytes, the store may hold ${maxBytes} in all`,
    { fields: { key, expected: maxBytes, actual: bytes }, remedy: 'raise maxBytes' },
  );
}

/**
 * What a whole snapshot can be refused for: it is of another model, other settings, or holds something else than was asked for. The engine
 * checks them once the checksums have passed.
 */
const otherFields: ReadonlySet<string> = new Set([
  ...['model', 'settings', 'selector', 'notes', 'document', 'chatTemplate'],
  ...selectorOptionNames,
]);

/** Whether an error says that a snapshot's bytes are not those that were saved, or that this version cannot read them. */
export function isDamage(error: unknown): error is CtkvrError {
  return (
    CtkvrError.isInstance(error) && error.code === 'CTKVR_BAD_SNAPSHOT' && !otherFields.has(String(error.fields.field))
  );
}
