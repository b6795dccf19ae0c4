/** The engine service on a model of this process: what the process of a model holds. */
import { CtkvrError } from '@ctkvr/core';
import type { ChatEvent, EngineMemory, PreparedChat, TokenizeOptions } from '../chat-engine.js';
import type { GenerationRequest, MessagesPrompt, Prompt } from '../generation-request.js';
import { type OpenedEngine, openEngine } from '../open-engine.js';
import type { SessionChatEngine } from '../session-chat-engine.js';
import type { EngineLoad, EngineService, LoadEvent, PreparedPrompt } from './engine-service.js';
import type { SessionsService } from './process-sessions.js';

export class ModelService implements EngineService {
  #loaded: OpenedEngine | null = null;
  readonly #prepared = new Map<number, PreparedChat>();
  #lastId = 0;

  async *load(
    { path, load, ...settings }: EngineLoad,
    signal?: AbortSignal,
  ): AsyncGenerator<LoadEvent, void, undefined> {
    let fraction = 0;
    let wake = () => {};
    const onProgress = (done: number) => {
      fraction = done;
      wake();
    };
    const opening = openEngine(path, settings, { ...load, signal, onProgress }, warn);
    const opened = opening.then(
      () => true,
      () => true, // thrown below
    );
    for (let told = 0; ; told = fraction) {
      const moved = new Promise<boolean>((resolve) => {
        wake = () => resolve(false);
      });
      if (fraction === told && (await Promise.race([opened, moved]))) break;
      yield { type: 'progress', fraction };
    }
    this.#loaded = await opening;
    const { contextLength, text } = this.#loaded.engine;
    yield { type: 'loaded', facts: { contextLength, text: await text.facts() } };
  }

  async prepare(request: GenerationRequest, signal: AbortSignal): Promise<PreparedPrompt> {
    const prepared = await this.#engine.prepare(request, signal);
    this.#lastId += 1;
    const id = this.#lastId;
    this.#prepared.set(id, prepared);
    const { run: _run, close: _close, ...chat } = prepared;
    return { id, chat };
  }

  run(preparedId: number, signal: AbortSignal): AsyncGenerator<ChatEvent, void, undefined> {
    const prepared = this.#prepared.get(preparedId);
    if (prepared === undefined) throw new CtkvrError('CTKVR_INTERNAL', `no prompt ${preparedId} is prepared`);
    return prepared.run(signal);
  }

  async discard(preparedId: number): Promise<void> {
    this.#prepared.get(preparedId)?.close?.();
    this.#prepared.delete(preparedId);
  }

  memory(): Promise<EngineMemory> {
    return this.#engine.memory();
  }

  tokenize(text: string, options: TokenizeOptions): Promise<Int32Array> {
    return this.#engine.text.tokenize(text, options);
  }

  tokensOf(prompt: Prompt, signal: AbortSignal, maxTokens?: number): Promise<Int32Array> {
    return this.#engine.text.tokensOf(prompt, signal, maxTokens);
  }

  bytesOf(tokens: ArrayLike<number>): Promise<readonly Uint8Array[]> {
    return this.#engine.text.bytesOf(tokens);
  }

  applyTemplate(prompt: MessagesPrompt, signal: AbortSignal): Promise<string> {
    return this.#engine.text.applyTemplate(prompt, signal);
  }

  async close(): Promise<void> {
    await this.#loaded?.close();
  }

  /** Documents of the model. */
  get sessions(): SessionsService {
    return this.#engine.sessions!;
  }

  get #engine(): SessionChatEngine {
    if (this.#loaded === null) throw new CtkvrError('CTKVR_INTERNAL', 'the model is not loaded yet');
    return this.#loaded.engine;
  }
}

/** The parent writes it to its log. */
function warn(what: string, error: unknown): void {
  process.stderr.write(`${what}: ${error instanceof Error ? error.message : String(error)}\n`);
}
