/** What the process's exit status says. Documented for users in the README; scripts rely on them. */
import { CtkvrError, type CtkvrErrorCode } from '@ctkvr/core';

export const exitCodes = {
  ok: 0,
  /** Something failed that has no number of its own, a bug included. */
  failure: 1,
  /** Wrong arguments or option values. */
  usage: 2,
  /** A file, model or device that is missing, unreadable, damaged or not supported. */
  input: 3,
  /** Too big: for the context, for memory, for the disk. */
  tooBig: 4,
  /** A download that did not succeed. */
  download: 5,
  /** Ctrl-C. */
  interrupted: 130,
  /** The reader of our output went away, as `head` does. */
  brokenPipe: 141,
  /** SIGTERM. */
  terminated: 143,
} as const;

const byErrorCode: Partial<Record<CtkvrErrorCode, number>> = {
  CTKVR_INVALID_OPTION: exitCodes.usage,
  CTKVR_FILE_NOT_FOUND: exitCodes.input,
  CTKVR_FILE_UNREADABLE: exitCodes.input,
  CTKVR_NOT_GGUF: exitCodes.input,
  CTKVR_CORRUPT_GGUF: exitCodes.input,
  CTKVR_BAD_SNAPSHOT: exitCodes.input,
  CTKVR_UNSUPPORTED_MODEL: exitCodes.input,
  CTKVR_UNKNOWN_MODEL: exitCodes.input,
  CTKVR_DEVICE_UNAVAILABLE: exitCodes.input,
  CTKVR_CONTEXT_EXCEEDED: exitCodes.tooBig,
  CTKVR_OUT_OF_MEMORY: exitCodes.tooBig,
  CTKVR_DISK_FULL: exitCodes.tooBig,
  CTKVR_DOWNLOAD_FAILED: exitCodes.download,
  CTKVR_CHECKSUM_MISMATCH: exitCodes.download,
  CTKVR_ABORTED: exitCodes.interrupted,
};

/** Returns the exit status for an error. */
export function exitCodeOf(error: unknown): number {
  return (CtkvrError.isInstance(error) ? byErrorCode[error.code] : undefined) ?? exitCodes.failure;
}
