/** From a model's name to the engine that answers with it, in this process. */
import type { KvFormat, PresetName, SelectorOptions } from '@ctkvr/core';
import { type LoadModelOptions, loadModel, type Model } from '@ctkvr/model-runner';
import { SessionChatEngine } from './session-chat-engine.js';
import { openSessions, type SessionStoreOptions } from './sessions/open-sessions.js';
import type { Warn } from './warn.js';

/** What an engine is made with: plain data, so that another process can be told. */
export interface EngineSettings {
  /** The name clients send. */
  readonly modelId: string;
  /** Tokens of prompt and answer together; null = as many as the model is loaded for. */
  readonly contextLength: number | null;
  readonly kvFormat?: KvFormat | undefined;
  readonly selector?: (Partial<SelectorOptions> & { readonly preset?: PresetName }) | undefined;
  /** Where documents that were read are kept; left out: nowhere. */
  readonly sessionStore?: SessionStoreOptions | undefined;
  /** What the store calls the model. Default: the name of its file. */
  readonly storedName?: string | undefined;
}

/** An engine of this process, and its end. */
export interface OpenedEngine {
  readonly engine: SessionChatEngine;
  /** Saves and closes its sessions, and the model if it was loaded here. */
  readonly close: () => Promise<void>;
}

/** @throws {CtkvrError} what loadModel throws. */
export async function openEngine(
  nameOrPath: string,
  settings: EngineSettings,
  load: LoadModelOptions,
  warn: Warn,
): Promise<OpenedEngine> {
  const { contextLength } = settings;
  const model = await loadModel(nameOrPath, { ...load, ...(contextLength === null ? {} : { contextLength }) });
  try {
    const { engine, close } = engineOf(model, settings, warn);
    return { engine, close: () => close().finally(() => model.close()) };
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** On a model that stays the caller's to close. */
export function engineOf(model: Model, settings: EngineSettings, warn: Warn): OpenedEngine {
  const { contextLength, sessionStore: store, storedName, ...drawn } = settings;
  const { kvFormat, selector } = settings;
  const sessions = openSessions(model, { reading: { kvFormat, selector }, store, storedName, warn });
  const engine = new SessionChatEngine({
    ...drawn,
    model,
    sessions,
    contextLength: Math.min(contextLength ?? model.contextLength, model.contextLength),
  });
  return { engine, close: () => sessions.close() };
}
