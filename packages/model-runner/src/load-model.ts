/** From a name or a path to a model that is ready to run. */
import { stat } from 'node:fs/promises';
import {
  CtkvrError,
  checkOption,
  checkOptions,
  type DeviceChoice,
  deviceCheck,
  type OptionCheck,
  type OptionChecks,
  type RopeOptions,
  ropeOptionChecks,
  ropeOptionsOf,
  takes,
} from '@ctkvr/core';
import { devicesOf, type NativeBinding, type NativeLoadOptions, type NativeModel, openBinding } from '@ctkvr/native';
import { type ChosenDevice, chooseDevice, fallbackWarning } from './choose-device.js';
import { Model } from './model.js';
import { type DownloadProgress, resolveModelFile } from './model-files/index.js';
import { type PromptStoreOptions, promptStore } from './open-prompt-store.js';
import { abortedError } from './operation-errors.js';

export interface LoadModelOptions extends RopeOptions {
  /** Tokens a session can hold when it does not ask for less. Default: what the model was trained for. */
  readonly contextLength?: number | undefined;
  /** Default: what this process may really use, cgroup limits counted. */
  readonly numThreads?: number | undefined;
  /** Tokens of prefill that go through the layers at once. Default 512. */
  readonly prefillChunk?: number | undefined;
  /** Jinja source that replaces the GGUF's chat template. */
  readonly chatTemplate?: string | undefined;
  /**
   * Uses weights in place, from the file's pages, which processes that run the same model share. By default they are copied into huge
   * pages, from which a token is some 10 to 15 % faster. Weights that ggml keeps in another order are copied either way. Default false.
   */
  readonly mapWeights?: boolean | undefined;
  /**
   * Bytes that the keys, values and indexes of all sessions may take together. Default: nine tenths of what this process may still allocate
   * once the model is loaded; on a device `kvDeviceBudgetBytes`.
   */
  readonly sessionMemoryBytes?: number | undefined;
  /**
   * Bytes of `sessionMemoryBytes` that prompts may take which are kept for later sessions with the option `prefixCache`. They make way for
   * sessions, the least recently used first. 0 = none is kept. Default: half of `sessionMemoryBytes`.
   */
  readonly prefixCacheBytes?: number | undefined;
  /**
   * Where prompts go that leave the prefix cache for want of memory, or when the model is closed: later ones begin from them too, also after a
   * restart. Other sessions' steps wait while one is written. They hold what users wrote, readable by their owner alone. Default: nowhere.
   */
  readonly promptStore?: PromptStoreOptions | undefined;
  /**
   * 'cpu'; 'cuda', the first device that can be used; 'cuda:N'; or 'auto', the first that can be used, else the CPU, with one `CtkvrWarning`
   * where there is a driver and no device of it works. `model.device` says what it became. Default 'cpu' for now: what runs on a device is
   * verified on a stand-in of the driver, not yet on a card.
   */
  readonly device?: DeviceChoice | undefined;
  /**
   * Bytes of a device's memory that keys and values of all sessions may take together. Default: nine tenths of what is free there once the model
   * is loaded. Without effect where 'auto' uses the CPU; refused with 'cpu'.
   */
  readonly kvDeviceBudgetBytes?: number | undefined;
  /**
   * Layers, the last ones, that are hybrid: their keys and values are in host memory, where the CPU scores and attends to what the device has
   * found; the device keeps their index, windows and retrieval heads. Default 0. Without effect where 'auto' uses the CPU; refused with 'cpu'.
   */
  readonly hybridLayers?: number | 'all' | undefined;
  /** Forces a kernel set of the engine, for tests. */
  readonly isa?: string | undefined;
  /** Receives the share of the weights that is loaded, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly onDownloadProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Ends a download at once, a load when it is done. */
  readonly signal?: AbortSignal | undefined;
}

const MAX_LAYERS = 0xffff_ffff;
const layerCount = takes.integer(0, MAX_LAYERS);

const hybridLayersCheck: OptionCheck = {
  expected: "a whole number from 0 on, or 'all'",
  isOptional: false,
  accepts: (value) => value === 'all' || layerCount.accepts(value),
};

const loadModelChecks: OptionChecks<LoadModelOptions> = {
  contextLength: takes.optional(takes.integer(1, 0x7fff_ffff)),
  numThreads: takes.optional(takes.integer(0, 1024)),
  prefillChunk: takes.optional(takes.integer(2, 1 << 16)),
  ...ropeOptionChecks,
  chatTemplate: takes.optional(takes.text),
  mapWeights: takes.optional(takes.boolean),
  sessionMemoryBytes: takes.optional(takes.numberAbove(0)),
  prefixCacheBytes: takes.optional(takes.integer(0, Number.MAX_SAFE_INTEGER)),
  promptStore: takes.optional(takes.object),
  device: takes.optional(deviceCheck),
  kvDeviceBudgetBytes: takes.optional(takes.integer(1, Number.MAX_SAFE_INTEGER)),
  hybridLayers: takes.optional(hybridLayersCheck),
  isa: takes.optional(takes.text),
  onProgress: takes.optional(takes.func),
  onDownloadProgress: takes.optional(takes.func),
  signal: takes.optional(takes.abortSignal),
};

const DEFAULT_DEVICE = 'cpu';
const DEFAULT_PREFILL_CHUNK = 512;
/** The rest is for what steps compute with, and for other programs. */
const SESSION_MEMORY_SHARE = 0.9;
/** An idle process does not fill the machine's memory with what may never be asked for again. */
const PREFIX_CACHE_SHARE = 0.5;

/**
 * Loads a model: a path, a catalogue name (downloaded once), or `owner/repo:file` on the Hugging Face hub.
 * @throws {CtkvrError} what `resolveModelFile` throws; CTKVR_NOT_GGUF, CTKVR_CORRUPT_GGUF, CTKVR_UNSUPPORTED_MODEL,
 * CTKVR_OUT_OF_MEMORY, CTKVR_INVALID_OPTION, CTKVR_ABORTED, CTKVR_NATIVE_UNAVAILABLE; CTKVR_DEVICE_UNAVAILABLE before anything is downloaded.
 */
export async function loadModel(nameOrPath: string, options: LoadModelOptions = {}): Promise<Model> {
  checkOption('loadModel', 'nameOrPath', nameOrPath, takes.text);
  checkOptions('loadModel', options, loadModelChecks, { promptStore: ['folder', 'maxBytes'] });
  checkDeviceIsUsed(options);
  const { signal } = options;
  const checked = nativeOptions(options);
  const store = options.promptStore === undefined ? null : promptStore(options.promptStore);
  const binding = await openBinding();
  const chosen = chooseDevice(binding, options.device ?? DEFAULT_DEVICE);
  const path = await resolveModelFile(nameOrPath, { onProgress: options.onDownloadProgress, signal });
  if (signal?.aborted) throw abortedError('loadModel', signal.reason);
  await checkFits(path, binding);
  const { native, device } = await loadOn(chosen, (name) =>
    binding.loadModel(path, { ...checked, ...deviceOptions(name, options) }, options.onProgress),
  );
  try {
    if (signal?.aborted) throw abortedError('loadModel', signal.reason);
    const { pageSize, passageSize } = binding.buildInfo();
    const memory = memoryOf(binding, device, options);
    return new Model({
      native,
      device,
      pageSize,
      passageSize,
      ...memory,
      prefixCacheBytes: options.prefixCacheBytes ?? PREFIX_CACHE_SHARE * memory.sessionMemoryBytes,
      promptStore: store,
      contextLength: contextLengthFor(native, options),
      chatTemplate: options.chatTemplate ?? null,
      prefillChunk: checked.prefillChunk,
    });
  } catch (error) {
    await native.close();
    throw error;
  }
}

/** Loads on the device, or, where that may be, on the CPU when the device does not take the model. */
async function loadOn(
  { name, mayFallBack, warning }: ChosenDevice,
  load: (device: string) => Promise<NativeModel>,
): Promise<{ readonly native: NativeModel; readonly device: string }> {
  let why = warning;
  let device = name;
  const native = await load(name).catch((error: unknown) => {
    if (!mayFallBack || !CtkvrError.isInstance(error) || error.code === 'CTKVR_ABORTED') throw error;
    why = fallbackWarning(`${name} did not take the model: ${error.message}`);
    device = 'cpu';
    return load('cpu'); // what is wrong with the file is wrong there too
  });
  if (why !== null) process.emitWarning(why, 'CtkvrWarning');
  return { native, device };
}

/** Nothing for the CPU: binaries of before there were devices know no such option. */
function deviceOptions(
  device: string,
  { kvDeviceBudgetBytes, hybridLayers = 0 }: LoadModelOptions,
): Pick<NativeLoadOptions, 'device' | 'kvBudgetBytes' | 'hybridLayers'> {
  if (device === 'cpu') return {};
  return {
    device,
    ...(kvDeviceBudgetBytes === undefined ? {} : { kvBudgetBytes: kvDeviceBudgetBytes }),
    ...(hybridLayers === 0 ? {} : { hybridLayers: hybridLayers === 'all' ? MAX_LAYERS : hybridLayers }),
  };
}

/** How much the sessions may take, and how much can still be allocated; on a device what counts is its memory, of which its budget is a part. */
function memoryOf(
  binding: NativeBinding,
  device: string,
  { sessionMemoryBytes, kvDeviceBudgetBytes, hybridLayers = 0 }: LoadModelOptions,
) {
  const availableMemoryBytes = () => binding.buildInfo().availableMemoryBytes;
  const listed = device === 'cpu' ? undefined : devicesOf(binding).devices.find(({ name }) => name === device);
  const onDevice = kvDeviceBudgetBytes ?? (listed && SESSION_MEMORY_SHARE * listed.freeBytes);
  // Hybrid layers are in this machine's memory; the engine itself keeps what is on the device within its budget.
  if (device === 'cpu' || hybridLayers !== 0 || onDevice === undefined) {
    return {
      sessionMemoryBytes: sessionMemoryBytes ?? SESSION_MEMORY_SHARE * availableMemoryBytes(),
      availableMemoryBytes,
    };
  }
  return {
    sessionMemoryBytes: Math.min(sessionMemoryBytes ?? Number.POSITIVE_INFINITY, onDevice),
    availableMemoryBytes: () => Number.POSITIVE_INFINITY,
  };
}

/** Options that would silently have no effect are refused. */
function checkDeviceIsUsed({ device = DEFAULT_DEVICE, kvDeviceBudgetBytes, hybridLayers = 0 }: LoadModelOptions): void {
  if (device !== 'cpu') return;
  const refuse = (option: string, what: string, remedy: string) => {
    throw new CtkvrError('CTKVR_INVALID_OPTION', `${option} ${what}, and the CPU is used`, {
      fields: { option, device },
      remedy,
    });
  };
  const useDevice = "set device to 'auto' or 'cuda'";
  if (kvDeviceBudgetBytes !== undefined)
    refuse('kvDeviceBudgetBytes', "bounds a device's memory", `${useDevice}, or set sessionMemoryBytes instead`);
  if (hybridLayers !== 0) refuse('hybridLayers', 'moves keys and values off a device', `${useDevice}, or leave it out`);
}

function nativeOptions({ numThreads = 0, prefillChunk = DEFAULT_PREFILL_CHUNK, ...options }: LoadModelOptions) {
  return {
    numThreads,
    prefillChunk,
    ...ropeOptionsOf(options),
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
