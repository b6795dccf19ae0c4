/** Loads the model a command was asked to use, with progress on the terminal. */
import { loadModel, type Model } from '@ctkvr/model-runner';
import { deviceSettings, type ModelOptions } from './parse-options.js';
import type { ProgressLine } from './progress-line.js';
import { readDocuments } from './read-document.js';
import { ropeSettings } from './rope-flags.js';

/** `--chat-template` as loadModel takes it. @throws {CtkvrError} CTKVR_FILE_NOT_FOUND, CTKVR_FILE_UNREADABLE. */
export async function templateOf(
  { chatTemplate: file }: Pick<ModelOptions, 'chatTemplate'>,
  signal: AbortSignal,
): Promise<{ readonly chatTemplate?: string }> {
  return file === undefined ? {} : { chatTemplate: await readDocuments([file], { stdin: process.stdin, signal }) };
}

/** @throws {CtkvrError} what loadModel throws. */
export async function openModel(
  options: ModelOptions,
  context: { readonly progress: ProgressLine; readonly signal: AbortSignal },
): Promise<Model> {
  const { progress, signal } = context;
  try {
    return await loadModel(options.model, {
      numThreads: options.threads,
      mapWeights: options.mapWeights,
      ...deviceSettings(options),
      ...ropeSettings(options),
      signal,
      ...(options.context === undefined ? {} : { contextLength: options.context }),
      ...(await templateOf(options, signal)),
      onDownloadProgress: progress.onDownload,
      onProgress: (fraction) => progress.show({ label: 'loading the model', fraction, detail: '' }),
    });
  } finally {
    progress.clear();
  }
}
