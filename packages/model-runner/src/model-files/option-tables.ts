/** What the functions around files and downloads take. */
import { type OptionChecks, takes } from '@ctkvr/core';
import type { DownloadCallbacks } from './download-progress.js';
import type { AskSourcesOptions } from './download-sources.js';
import type { DownloadRequest } from './download-verified.js';
import type { ZipExtraction } from './extract-zip-entry.js';

const callback = takes.optional(takes.func);
const signal = takes.optional(takes.abortSignal);
const callbacks: OptionChecks<DownloadCallbacks> = { onProgress: callback, signal };

/** `ResolveModelOptions` and `NpmTextOptions`. */
export const cacheChecks = { ...callbacks, cacheDir: takes.optional(takes.text) };

export const downloadChecks: OptionChecks<DownloadRequest> = {
  ...callbacks,
  url: takes.text,
  destination: takes.text,
  hash: takes.optional(takes.object),
  sizeBytes: takes.optional(takes.integer(0, Number.MAX_SAFE_INTEGER)),
  headers: takes.optional(takes.object),
  statusHint: callback,
  retryDelayMs: takes.optional(takes.number(0, 0x7fff_ffff)),
};

export const zipChecks: OptionChecks<ZipExtraction> = {
  ...callbacks,
  archive: takes.text,
  matches: takes.func,
  destination: takes.text,
  hash: takes.object,
};

export const indexedFileChecks = {
  project: takes.text,
  filename: takes.text,
  env: takes.optional(takes.object),
  signal,
};

export const askChecks: OptionChecks<AskSourcesOptions> = {
  env: takes.optional(takes.object),
  timeoutMs: takes.optional(takes.integer(1, 0x7fff_ffff)),
  signal,
};

export const hashChecks = { onBytes: callback, signal };

export const lockChecks = { signal, onWait: callback, staleMs: takes.optional(takes.number(0, 0x7fff_ffff)) };
