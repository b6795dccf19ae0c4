/** From a name or a path to a model that is ready to run. */
import { stat } from 'node:fs/promises';
import { CtkvrError, checkOption, checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import { type NativeBinding, type NativeModel, openBinding } from '@ctkvr/native';
import { Model } from './model.js';
import { type DownloadProgress, resolveModelFile } from './model-files/index.js';
import { abortedError } from './operation-errors.js';

export interface LoadModelOptions {
  /** Tokens a session can hold when it does not ask for less. Default: what the model was trained for. */
  readonly contextLength?: number | undefined;
  /** Default: what this process may really use, cgroup limits counted. */
  readonly numThreads?: number | undefined;
  /** Tokens of prefill that go through the layers at once. Default 512. */
  readonly prefillChunk?: number | undefined;
  /** Replaces the GGUF's base of the rotary embedding. */
  readonly ropeFreqBase?: number | undefined;
  /** Replaces the GGUF's scale of the rotary embedding: 0.5 stretches the context twofold. */
  readonly ropeFreqScale?: number | undefined;
  /** Jinja source that replaces the GGUF's chat template. */
  readonly chatTemplate?: string | undefined;
  /**
   * Uses weights in place, from the file's pages, which processes that run the same model share. By default they are copied into huge
   * pages, from which a token is some 10 to 15 % faster. Weights that ggml keeps in another order are copied either way. Default false.
   */
  readonly mapWeights?: boolean | undefined;
  /**
   * Bytes that the keys, values and indexes of all sessions may take together. Default: nine tenths of what this process may still allocate
   * once the model is loaded.
   */
  readonly sessionMemoryBytes?: number | undefined;
  /** Forces a kernel set of the engine, for tests. */
  readonly isa?: string | undefined;
  /** Receives the share of the weights that is loaded, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly onDownloadProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Ends a download at once, a load when it is done. */
  readonly signal?: AbortSignal | undefined;
}

const loadModelChecks: OptionChecks<LoadModelOptions> = {
  contextLength: takes.optional(takes.integer(1, 0x7fff_ffff)),
  numThreads: takes.optional(takes.integer(0, 1024)),
  prefillChunk: takes.optional(takes.integer(2, 1 << 16)),
  ropeFreqBase: takes.optional(takes.numberAbove(0)),
  ropeFreqScale: takes.optional(takes.numberAbove(0)),
  chatTemplate: takes.optional(takes.text),
  mapWeights: takes.optional(takes.boolean),
  sessionMemoryBytes: takes.optional(takes.numberAbove(0)),
  isa: takes.optional(takes.text),
  onProgress: takes.optional(takes.func),
  onDownloadProgress: takes.optional(takes.func),
  signal: takes.optional(takes.abortSignal),
};

const DEFAULT_PREFILL_CHUNK = 512;
/** The rest is for what steps compute with, and for other programs. */
const SESSION_MEMORY_SHARE = 0.9;

/**
 * Loads a model: a path, a catalogue name (downloaded once), or `owner/repo:file` on the Hugging Face hub.
 * @throws {CtkvrError} what `resolveModelFile` throws; CTKVR_NOT_GGUF, CTKVR_CORRUPT_GGUF, CTKVR_UNSUPPORTED_MODEL,
 * CTKVR_OUT_OF_MEMORY, CTKVR_INVALID_OPTION, CTKVR_ABORTED, CTKVR_NATIVE_UNAVAILABLE.
 */
export async function loadModel(nameOrPath: string, options: LoadModelOptions = {}): Promise<Model> {
  checkOption('loadModel', 'nameOrPath', nameOrPath, takes.text);
  checkOptions('loadModel', options, loadModelChecks);
  const { signal } = options;
  const checked = nativeOptions(options);
  const binding = await openBinding();
  const path = await resolveModelFile(nameOrPath, { onProgress: options.onDownloadProgress, signal });
  if (signal?.aborted) throw abortedError('loadModel', signal.reason);
  await checkFits(path, binding);
  const native = await binding.loadModel(path, checked, options.onProgress);
  try {
    if (signal?.aborted) throw abortedError('loadModel', signal.reason);
    const { availableMemoryBytes, pageSize } = binding.buildInfo();
    return new Model({
      native,
      pageSize,
      sessionMemoryBytes: options.sessionMemoryBytes ?? SESSION_MEMORY_SHARE * availableMemoryBytes,
      contextLength: contextLengthFor(native, options),
      chatTemplate: options.chatTemplate ?? null,
      prefillChunk: checked.prefillChunk,
      availableMemoryBytes: () => binding.buildInfo().availableMemoryBytes,
    });
  } catch (error) {
    await native.close();
    throw error;
  }
}

function nativeOptions({ numThreads = 0, prefillChunk = DEFAULT_PREFILL_CHUNK, ...options }: LoadModelOptions) {
  return {
    numThreads,
    prefillChunk,
    ...(options.ropeFreqBase === undefined ? {} : { ropeFreqBase: options.ropeFreqBase }),
    ...(options.ropeFreqScale === undefined ? {} : { ropeFreqScale: options.ropeFreqScale }),
    mapWeights: options.mapWeights ?? false,
    ...(options.isa === undefined ? {} : { isa: options.isa }),
  };
}

/** A longer context than the model was trained for is allowed only with the rotary settings that are meant for it. */
function contextLengthFor(native: NativeModel, options: LoadModelOptions): number {
  const { trainedContext } = native.info;
  const asked = options.contextLength ?? trainedContext;
  const stretched = options.ropeFreqBase !== undefined || options.ropeFreqScale !== undefined;
  if (asked <= trainedContext || stretched) return asked;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `contextLength must be at most ${trainedContext}, what the model was trained for, got ${asked}`,
    {
      fields: { option: 'contextLength', max: trainedContext, actual: asked },
      remedy: 'to stretch it, also set ropeFreqScale or ropeFreqBase',
    },
  );
}

async function checkFits(path: string, binding: NativeBinding): Promise<void> {
  const { size } = await stat(path);
  const { availableMemoryBytes } = binding.buildInfo();
  if (size <= availableMemoryBytes) return;
  throw new CtkvrError(
    'CTKVR_OUT_OF_MEMORY',
    `${path}: the weights have ${size} bytes, ${availableMemoryBytes} bytes of memory are available; choose a smaller model or a smaller quantisation`,
    { fields: { path, neededBytes: size, availableBytes: availableMemoryBytes } },
  );
}
