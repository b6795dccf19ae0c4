/**
 * A chat engine without a model, for tests of the routes: it answers with the last message's words, one an event. Words that start
 * with `!` are orders: `!fail` throws, `!hang` waits until it is aborted, `!long` is a text larger than a socket's buffers.
 *
 * With `stepped`, every event (the first too) waits for a call of `step`, so that a test decides what happens in which order.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { CtkvrError } from '@ctkvr/core';
import type { ChatEngine, ChatEvent, PreparedChat } from '../src/chat-engine.js';
import type { ChatRequest } from '../src/chat-request.js';

export class EchoEngine implements ChatEngine {
  readonly modelId = 'echo';
  readonly createdAt = 1_700_000_000;
  readonly contextLength = 50;
  /** Requests that were opened and have not ended, and the most there ever were. */
  numOpen = 0;
  maxOpen = 0;
  /** Requests whose messages are being rendered, and how long that takes. */
  numPreparing = 0;
  prepareMs = 0;
  /** The last request that was prepared. */
  lastRequest: ChatRequest | null = null;
  readonly #waiting = new Set<() => void>();
  #stepped: boolean;

  constructor({ stepped = false } = {}) {
    this.#stepped = stepped;
  }

  async prepare(request: ChatRequest): Promise<PreparedChat> {
    this.lastRequest = request;
    this.numPreparing += 1;
    if (this.prepareMs > 0) await delay(this.prepareMs);
    this.numPreparing -= 1;
    const words = request.messages.flatMap((message) => message.content.split(' '));
    const answer = request.messages.at(-1)?.content.split(' ') ?? [];
    if (words.length > this.contextLength) {
      throw new CtkvrError('CTKVR_CONTEXT_EXCEEDED', `${words.length} words, ${this.contextLength} fit`);
    }
    if (words.includes('!refuse')) throw new CtkvrError('CTKVR_INVALID_OPTION', 'the template refused the messages');
    return { numPromptTokens: words.length, run: (signal) => this.#run(answer, request.maxTokens ?? 1000, signal) };
  }

  /** Lets the `n`-th (modulo how many there are) of the events that wait happen. */
  step(n = 0): void {
    [...this.#waiting][n % Math.max(this.#waiting.size, 1)]?.();
  }

  /** From here on nothing waits for a step. */
  runFreely(): void {
    this.#stepped = false;
    for (const go of [...this.#waiting]) go();
  }

  async *#run(words: string[], maxTokens: number, signal: AbortSignal): AsyncGenerator<ChatEvent, void, undefined> {
    this.numOpen += 1;
    this.maxOpen = Math.max(this.maxOpen, this.numOpen);
    try {
      await this.#turn(signal);
      yield { type: 'opened' };
      for (const word of words.slice(0, maxTokens)) {
        await this.#turn(signal);
        if (word === '!fail') throw new CtkvrError('CTKVR_INTERNAL', 'a secret detail');
        if (word === '!invalid') throw new CtkvrError('CTKVR_INVALID_OPTION', 'a secret detail');
        if (word === '!closed') throw new CtkvrError('CTKVR_CLOSED', 'the model is closed');
        if (word === '!memory') throw new CtkvrError('CTKVR_OUT_OF_MEMORY', 'no memory');
        if (word === '!hang') await aborted(signal);
        if (signal.aborted) throw new CtkvrError('CTKVR_ABORTED', 'aborted');
        yield { type: 'text', text: word === '!long' ? 'x'.repeat(3_000_000) : `${word} ` };
      }
      await this.#turn(signal);
      yield {
        type: 'finish',
        finish: {
          reason: words.length > maxTokens ? 'length' : 'stop',
          numCompletionTokens: Math.min(words.length, maxTokens),
          numCachedTokens: 0,
          statistics: {
            time_to_first_token_ms: 1,
            ms_per_token: 1,
            keys_read_per_head: null,
            keys_per_head: null,
          },
        },
      };
    } finally {
      await nextTurn(); // a session takes a moment to close, and counts until then
      this.numOpen -= 1;
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    if (!this.#stepped) return;
    let go!: () => void;
    const told = new Promise<void>((resolve) => {
      go = resolve;
    });
    this.#waiting.add(go);
    await Promise.race([told, aborted(signal)]);
    this.#waiting.delete(go);
    if (signal.aborted) throw new CtkvrError('CTKVR_ABORTED', 'aborted');
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
