/** What the process of a model serves: the chat engine's interface as calls over plain data. */
import type { LoadModelOptions } from '@ctkvr/model-runner';
import type { ChatEvent, EngineMemory, PreparedChat, TextFacts, TokenizeOptions } from '../chat-engine.js';
import type { GenerationRequest, MessagesPrompt, Prompt } from '../generation-request.js';
import type { EngineSettings } from '../open-engine.js';
import type { MethodKinds } from '../remote/forward.js';

/** The name it is served under. */
export const ENGINE_SERVICE = 'engine';

export interface EngineLoad extends EngineSettings {
  /** The GGUF file. */
  readonly path: string;
  readonly load: Omit<LoadModelOptions, 'contextLength' | 'signal' | 'onProgress' | 'onDownloadProgress'>;
}

/** What is known of a model once it is loaded. */
export interface EngineFacts {
  readonly contextLength: number;
  readonly text: TextFacts;
}

export type LoadEvent =
  /** The share of the weights that is loaded, 0 to 1. */
  | { readonly type: 'progress'; readonly fraction: number }
  /** The last. */
  | { readonly type: 'loaded'; readonly facts: EngineFacts };

/** A prompt that was prepared, and waits there to be run. */
export interface PreparedPrompt {
  readonly id: number;
  /** All of it but what runs it. */
  readonly chat: Omit<PreparedChat, 'run' | 'close'>;
}

export interface EngineService {
  /** The first call, once. @throws {CtkvrError} what loadModel throws. */
  load(options: EngineLoad, signal?: AbortSignal): AsyncGenerator<LoadEvent, void, undefined>;
  /** As `ChatEngine.prepare`. What comes back is kept until `discard`. */
  prepare(request: GenerationRequest, signal: AbortSignal): Promise<PreparedPrompt>;
  run(preparedId: number, signal: AbortSignal): AsyncGenerator<ChatEvent, void, undefined>;
  discard(preparedId: number): Promise<void>;
  memory(): Promise<EngineMemory>;
  tokenize(text: string, options: TokenizeOptions): Promise<Int32Array>;
  tokensOf(prompt: Prompt, signal: AbortSignal, maxTokens?: number): Promise<Int32Array>;
  bytesOf(tokens: ArrayLike<number>): Promise<readonly Uint8Array[]>;
  applyTemplate(prompt: MessagesPrompt, signal: AbortSignal): Promise<string>;
  /** Closes the model. */
  close(): Promise<void>;
}

export const engineServiceMethods: MethodKinds<EngineService> = {
  load: 'stream',
  prepare: 'call',
  run: 'stream',
  discard: 'call',
  memory: 'call',
  tokenize: 'call',
  tokensOf: 'call',
  bytesOf: 'call',
  applyTemplate: 'call',
  close: 'call',
};
