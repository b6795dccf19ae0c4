/** What a download tells its caller while it runs. */
import { type OptionChecks, takes } from '@ctkvr/core';

export interface DownloadProgress {
  /** waiting = another process downloads the same file; extract = unpacking an archive; verify = hashing what is on disk. */
  readonly phase: 'waiting' | 'download' | 'extract' | 'verify';
  /** What is being worked on: a file name. */
  readonly name: string;
  readonly bytesDone: number;
  /** null when the server does not say. */
  readonly bytesTotal: number | null;
  /** Mean over this attempt; 0 while unknown. */
  readonly bytesPerSecond: number;
}

export interface DownloadCallbacks {
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const downloadCallbackChecks: OptionChecks<DownloadCallbacks> = {
  onProgress: takes.optional(takes.func),
  signal: takes.optional(takes.abortSignal),
};

/** `ResolveModelOptions` and `NpmTextOptions`. */
export const cachedDownloadChecks = { ...downloadCallbackChecks, cacheDir: takes.optional(takes.text) };

/** Milliseconds between two progress reports of one phase; the last one is always sent. */
export const PROGRESS_INTERVAL_MS = 100;

/** Returns a function that counts bytes and reports at most every `PROGRESS_INTERVAL_MS`, plus once when `finish` is called. */
export function progressMeter(
  input: { phase: DownloadProgress['phase']; name: string; bytesTotal: number | null; bytesAlreadyDone?: number },
  onProgress: ((progress: DownloadProgress) => void) | undefined,
): { add(bytes: number): void; finish(): void } {
  const { bytesAlreadyDone = 0, ...fixed } = input;
  const startedAt = performance.now();
  let reportedAt = 0;
  let bytesDone = bytesAlreadyDone;
  const report = (now: number) => {
    reportedAt = now;
    const seconds = (now - startedAt) / 1000;
    onProgress?.({ ...fixed, bytesDone, bytesPerSecond: seconds > 0 ? (bytesDone - bytesAlreadyDone) / seconds : 0 });
  };
  return {
    add(bytes) {
      bytesDone += bytes;
      const now = performance.now();
      if (now - reportedAt >= PROGRESS_INTERVAL_MS) report(now);
    },
    finish() {
      report(performance.now());
    },
  };
}
