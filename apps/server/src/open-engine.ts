/** From a model's name to the engine that answers with it, in this process. */
import type { KvFormat, PresetName, SelectorOptions } from '@ctkvr/core';
import { type LoadModelOptions, loadModel, type Model } from '@ctkvr/model-runner';
import { SessionChatEngine } from './session-chat-engine.js';

/** What an engine is made with: plain data, so that another process can be told. */
export interface EngineSettings {
  /** The name clients send. */
  readonly modelId: string;
  /** Tokens of prompt and answer together; null = as many as the model is loaded for. */
  readonly contextLength: number | null;
  readonly kvFormat?: KvFormat | undefined;
  readonly selector?: (Partial<SelectorOptions> & { readonly preset?: PresetName }) | undefined;
}

/** @throws {CtkvrError} what loadModel throws. */
export async function openEngine(
  nameOrPath: string,
  settings: EngineSettings,
  load: LoadModelOptions,
): Promise<{ readonly engine: SessionChatEngine; readonly model: Model }> {
  const { contextLength } = settings;
  const model = await loadModel(nameOrPath, { ...load, ...(contextLength === null ? {} : { contextLength }) });
  try {
    return { engine: engineOf(model, settings), model };
  } catch (error) {
    await model.close();
    throw error;
  }
}

export function engineOf(model: Model, { contextLength, ...settings }: EngineSettings): SessionChatEngine {
  return new SessionChatEngine({
    ...settings,
    model,
    contextLength: Math.min(contextLength ?? model.contextLength, model.contextLength),
  });
}
