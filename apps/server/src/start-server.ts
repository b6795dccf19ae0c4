/** Loads models and listens: what `ctkvr serve` runs. */
import path from 'node:path';
import {
  CtkvrError,
  checkOptions,
  type KvFormat,
  kvFormats,
  type OptionChecks,
  type PresetName,
  ropeOptionNames,
  type SelectorOptions,
  selectorOptionNames,
  takes,
} from '@ctkvr/core';
import type { LoadModelOptions, Model } from '@ctkvr/model-runner';
import { type NamedModel, type StartedEngines, startEngines } from './isolation/start-engines.js';
import { engineOf, openEngine } from './open-engine.js';
import { defaultQueueOptions } from './request-queue.js';
import { defaultLogger, type ListenOptions, listen, listenChecks, type RunningServer } from './running-server.js';
import type { SessionStoreOptions } from './sessions/open-sessions.js';
import type { Warn } from './warn.js';

export interface StartServerOptions extends ListenOptions {
  /**
   * A path, catalogue name or `owner/repo:file`, which is loaded and closed here; or a loaded model, which stays the caller's to close and runs
   * in this process. This or `models`.
   */
  readonly model?: Model | string;
  /** The name clients send. Default: the catalogue name, or the file's name without `.gguf`. */
  readonly modelName?: string;
  /** Several models, each loaded for the first request that names it. A request that names none gets the first. */
  readonly models?: readonly (string | { readonly model: string; readonly name?: string })[];
  /**
   * 'process': each model runs in a process of its own, which is started again when it dies. 'none': in this process, which dies with the model.
   * Default: 'process', and 'none' for a loaded model.
   */
  readonly isolation?: 'process' | 'none';
  /** Milliseconds without a request after which a model is unloaded, until the next one. Default: never. */
  readonly unloadAfterMs?: number | undefined;
  /**
   * Milliseconds without a sign of life after which the process of a model is killed and started again. However long a model computes, its process
   * answers meanwhile. Default 60,000; 0: never.
   */
  readonly engineTimeoutMs?: number | undefined;
  /** Bytes that `models` may need together; those used longest ago are unloaded. Default: nine tenths of what is free at the start. */
  readonly memoryBytes?: number | undefined;
  /** Tokens of prompt and answer together. Default, and most for a loaded model: what it was loaded for. */
  readonly contextLength?: number;
  /** How sessions store keys and values. Default 'f16'. */
  readonly kvFormat?: KvFormat;
  readonly selector?: Partial<SelectorOptions> & { readonly preset?: PresetName };
  /** Where documents that were read are kept, so that they survive a restart. Default: nowhere. */
  readonly sessionStore?: SessionStoreOptions;
  /** Passed on to loadModel for models that are loaded here. */
  readonly load?: Omit<LoadModelOptions, 'contextLength'>;
}

const optionChecks: OptionChecks<StartServerOptions> = {
  ...listenChecks,
  model: takes.anything, // a name or a loaded model
  modelName: takes.optional(takes.text),
  models: takes.optional(takes.list),
  isolation: takes.optional(takes.oneOf(['process', 'none'])),
  unloadAfterMs: takes.optional(takes.integer(1, 0x7fff_ffff)),
  engineTimeoutMs: takes.optional(takes.integer(0, 0x7fff_ffff)),
  memoryBytes: takes.optional(takes.integer(1, Number.MAX_SAFE_INTEGER)),
  contextLength: takes.optional(takes.integer(1, 0x7fff_ffff)),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.optional(takes.object),
  sessionStore: takes.optional(takes.object),
  load: takes.optional(takes.object),
};

/**
 * Resolves when the server listens: with one model, when that is loaded.
 * @throws {CtkvrError} what loadModel throws; CTKVR_INVALID_OPTION when the address cannot be bound, or options exclude each other.
 */
export async function startServer(options: StartServerOptions): Promise<RunningServer> {
  checkOptions('startServer', options, optionChecks, {
    selector: selectorOptionNames,
    sessionStore: ['folder', 'maxBytes'],
    load: [
      'numThreads',
      'prefillChunk',
      'mapWeights',
      'sessionMemoryBytes',
      'prefixCacheBytes',
      'promptStore',
      'chatTemplate',
      ...ropeOptionNames,
      'device',
      'kvDeviceBudgetBytes',
      'hybridLayers',
    ],
  });
  const logger = options.logger ?? defaultLogger();
  const { engines, close } = await openEngines({ ...options, logger });
  const listening = Object.entries(options).filter(([name]) => Object.hasOwn(listenChecks, name));
  return listen(engines, { ...(Object.fromEntries(listening) as ListenOptions), logger }, close);
}

type Opening = StartServerOptions & Required<Pick<ListenOptions, 'logger'>>;

async function openEngines(options: Opening): Promise<StartedEngines> {
  const { contextLength = null, kvFormat, selector, sessionStore, load = {}, isolation = 'process' } = options;
  const settings = { contextLength, kvFormat, selector, sessionStore };
  const warn: Warn = (what, error) => options.logger.warn({ err: error }, what);
  const { model } = options;
  if (model !== undefined && typeof model !== 'string') {
    if (options.isolation === 'process')
      throw excluded('isolation', "a loaded model runs in this process: give 'model' as a path");
    const modelId = options.modelName ?? nameOf(model.info.path);
    const { engine, close } = engineOf(model, { ...settings, modelId }, warn);
    return { engines: [engine], close };
  }
  const models = namedModels(options);
  if (isolation === 'process') {
    const { logger, memoryBytes, unloadAfterMs, engineTimeoutMs: silenceMs } = options;
    const { maxQueued: maxWaiting = defaultQueueOptions.maxQueued } = options;
    return await startEngines({ models, settings, load, memoryBytes, unloadAfterMs, silenceMs, maxWaiting, logger });
  }
  const [only, ...others] = models;
  if (others.length > 0) throw excluded('isolation', "several models need isolation 'process'");
  for (const option of ['unloadAfterMs', 'engineTimeoutMs'] as const) {
    if (options[option] !== undefined) throw excluded(option, "it needs isolation 'process'");
  }
  const { engine, close } = await openEngine(only!.model, { ...settings, modelId: only!.name }, load, warn);
  return { engines: [engine], close };
}

/** The models to load, one at least. @throws {CtkvrError} CTKVR_INVALID_OPTION */
function namedModels({ model, modelName, models }: StartServerOptions): NamedModel[] {
  if ((model === undefined) === (models === undefined)) throw excluded('models', "give either 'model' or 'models'");
  if (model !== undefined) return [{ model: model as string, name: modelName ?? nameOf(model as string) }];
  if (modelName !== undefined) throw excluded('modelName', "the names of several models stand in 'models'");
  const named = models!.map((one, index) => {
    const { model: source, name } = typeof one === 'string' ? { model: one, name: undefined } : (one ?? {});
    if (typeof source === 'string' && (name === undefined || typeof name === 'string')) {
      return { model: source, name: name ?? nameOf(source) };
    }
    throw excluded('models', `models[${index}] must be a path or name, or { model, name }`);
  });
  if (named.length === 0) throw excluded('models', 'it must name a model');
  const names = named.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw excluded('models', `two models have the name '${twice}'; give each a name of its own`);
  return named;
}

function excluded(option: string, why: string): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `startServer: ${option}: ${why}`, {
    fields: { op: 'startServer', option },
  });
}

function nameOf(source: string): string {
  return path.basename(source.split(':').at(-1) ?? source, '.gguf');
}
