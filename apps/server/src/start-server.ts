/** Loads a model and listens: what `ctkvr serve` runs. */
import path from 'node:path';
import {
  checkOptions,
  type KvFormat,
  kvFormats,
  type OptionChecks,
  type PresetName,
  type SelectorOptions,
  selectorOptionNames,
  takes,
} from '@ctkvr/core';
import { type LoadModelOptions, loadModel, type Model } from '@ctkvr/model-runner';
import { defaultLogger, type ListenOptions, listen, listenChecks, type RunningServer } from './running-server.js';
import { SessionChatEngine } from './session-chat-engine.js';
import { openSessions, type SessionStoreOptions } from './sessions/open-sessions.js';

export interface StartServerOptions extends ListenOptions {
  /** A loaded model, which stays the caller's to close; or a path, catalogue name or `owner/repo:file`, which is loaded and closed here. */
  readonly model: Model | string;
  /** The name clients send. Default: the catalogue name, or the file's name without `.gguf`. */
  readonly modelName?: string;
  /** Tokens of prompt and answer together. Default, and most for a loaded model: what it was loaded for. */
  readonly contextLength?: number;
  /** How sessions store keys and values. Default 'f16'. */
  readonly kvFormat?: KvFormat;
  readonly selector?: Partial<SelectorOptions> & { readonly preset?: PresetName };
  /** Where documents that were read are kept, so that they survive a restart. Default: nowhere. */
  readonly sessionStore?: SessionStoreOptions;
  /** Passed on to loadModel when `model` is a string. */
  readonly load?: Omit<LoadModelOptions, 'contextLength'>;
}

const optionChecks: OptionChecks<StartServerOptions> = {
  ...listenChecks,
  model: takes.anything, // a name or a loaded model
  modelName: takes.optional(takes.text),
  contextLength: takes.optional(takes.integer(1, 0x7fff_ffff)),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.optional(takes.object),
  sessionStore: takes.optional(takes.object),
  load: takes.optional(takes.object),
};

/**
 * Resolves when the server listens.
 * @throws {CtkvrError} what loadModel throws; CTKVR_INVALID_OPTION when the address cannot be bound.
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
      'chatTemplate',
      'ropeFreqBase',
      'ropeFreqScale',
      'device',
      'kvDeviceBudgetBytes',
      'hybridLayers',
    ],
  });
  const { contextLength, kvFormat, selector } = options;
  const owned =
    typeof options.model === 'string'
      ? await loadModel(options.model, { ...options.load, ...(contextLength === undefined ? {} : { contextLength }) })
      : null;
  const model = owned ?? (options.model as Model);
  const logger = options.logger ?? defaultLogger();
  const modelId = options.modelName ?? nameOf(options.model);
  const sessions = openSessions(model, { reading: { kvFormat, selector }, store: options.sessionStore, logger });
  const engine = new SessionChatEngine({
    model,
    modelId,
    sessions,
    contextLength: Math.min(contextLength ?? model.contextLength, model.contextLength),
    kvFormat,
    selector,
  });
  const listening = Object.entries(options).filter(([name]) => Object.hasOwn(listenChecks, name));
  return listen(engine, { ...(Object.fromEntries(listening) as ListenOptions), logger }, async () => {
    await sessions.close();
    await owned?.close();
  });
}

function nameOf(model: Model | string): string {
  const source = typeof model === 'string' ? model : model.info.path;
  return path.basename(source.split(':').at(-1) ?? source, '.gguf');
}
