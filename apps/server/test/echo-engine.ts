/**
 * A chat engine without a model, for tests of the routes: it answers with the last message's words, one an event. Words that start
 * with `!` are orders: `!fail` throws, `!hang` waits until it is aborted.
 */
import { CtkvrError } from '@ctkvr/core';
import type { ChatEngine, ChatEvent, PreparedChat } from '../src/chat-engine.js';
import type { ChatRequest } from '../src/chat-request.js';

export class EchoEngine implements ChatEngine {
  readonly modelId = 'echo';
  readonly createdAt = 1_700_000_000;
  readonly contextLength = 50;
  /** Requests that were opened and have not ended. */
  numOpen = 0;

  async prepare(request: ChatRequest): Promise<PreparedChat> {
    const words = request.messages.flatMap((message) => message.content.split(' '));
    const answer = request.messages.at(-1)?.content.split(' ') ?? [];
    if (words.length > this.contextLength) {
      throw new CtkvrError('CTKVR_CONTEXT_EXCEEDED', `${words.length} words, ${this.contextLength} fit`);
    }
    return { numPromptTokens: words.length, run: (signal) => this.#run(answer, request.maxTokens ?? 1000, signal) };
  }

  async *#run(words: string[], maxTokens: number, signal: AbortSignal): AsyncGenerator<ChatEvent, void, undefined> {
    this.numOpen += 1;
    try {
      yield { type: 'opened' };
      for (const word of words.slice(0, maxTokens)) {
        if (word === '!fail') throw new CtkvrError('CTKVR_INTERNAL', 'a secret detail');
        if (word === '!hang') await aborted(signal);
        if (signal.aborted) throw new CtkvrError('CTKVR_ABORTED', 'aborted');
        yield { type: 'text', text: `${word} ` };
      }
      yield {
        type: 'finish',
        finish: {
          reason: words.length > maxTokens ? 'length' : 'stop',
          numCompletionTokens: Math.min(words.length, maxTokens),
          statistics: {
            time_to_first_token_ms: 1,
            ms_per_token: 1,
            keys_read_per_head: null,
            keys_per_head: null,
          },
        },
      };
    } finally {
      this.numOpen -= 1;
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
