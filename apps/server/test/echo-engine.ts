/**
 * A chat engine without a model, for tests of the routes: it answers with the last message's words, one an event. Words that start
 * with `!` are orders: `!part:{…}` gives that event, `!fail` throws, `!hang` waits until it is aborted, `!long` is a text larger than a socket's buffers.
 *
 * With `stepped`, every event (the first too) waits for a call of `step`, so that a test decides what happens in which order.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { CtkvrError } from '@ctkvr/core';
import type { ChatEngine, ChatEvent, EngineState, EngineText, PreparedChat, ScoredToken } from '../src/chat-engine.js';
import type { GenerationRequest, Prompt } from '../src/generation-request.js';

export class EchoEngine implements ChatEngine {
  readonly modelId: string;
  readonly createdAt = 1_700_000_000;
  readonly contextLength = 50;
  readonly text = byteText;
  state: EngineState = 'ready';
  failure: string | null = null;
  /** Requests that were opened and have not ended, and the most there ever were. */
  numOpen = 0;
  maxOpen = 0;
  /** Requests whose messages are being rendered, and how long that takes. */
  numPreparing = 0;
  prepareMs = 0;
  /** The last request that was prepared. */
  lastRequest: GenerationRequest | null = null;
  readonly #waiting = new Set<() => void>();
  #stepped: boolean;

  constructor({ stepped = false, modelId = 'echo' } = {}) {
    this.modelId = modelId;
    this.#stepped = stepped;
  }

  async prepare(request: GenerationRequest): Promise<PreparedChat> {
    this.lastRequest = request;
    this.numPreparing += 1;
    if (this.prepareMs > 0) await delay(this.prepareMs);
    this.numPreparing -= 1;
    const words = wordsOf(request.prompt);
    const answer = textsOf(request.prompt).at(-1)?.split(' ') ?? [];
    if (words.length > this.contextLength) {
      throw new CtkvrError('CTKVR_CONTEXT_EXCEEDED', `${words.length} words, ${this.contextLength} fit`);
    }
    if (words.includes('!refuse')) throw new CtkvrError('CTKVR_INVALID_OPTION', 'the template refused the messages');
    return { numPromptTokens: words.length, run: (signal) => this.#run(answer, request, signal) };
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

  async *#run(
    all: string[],
    { maxTokens: asked, stop, numTopLogprobs }: GenerationRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ChatEvent, void, undefined> {
    const maxTokens = asked ?? 1000;
    const stopString = all.slice(0, maxTokens + 1).find((word) => stop.includes(word)) ?? null;
    const words = stopString === null ? all : all.slice(0, all.indexOf(stopString));

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
        if (word === '!lost') throw new CtkvrError('CTKVR_DEVICE_LOST', 'the device is lost');
        if (word === '!memory') throw new CtkvrError('CTKVR_OUT_OF_MEMORY', 'no memory');
        if (word === '!hang') await aborted(signal);
        if (signal.aborted) throw new CtkvrError('CTKVR_ABORTED', 'aborted');
        if (word.startsWith('!part:')) {
          yield JSON.parse(word.slice('!part:'.length)) as ChatEvent;
          continue;
        }
        const text = word === '!long' ? 'x'.repeat(3_000_000) : `${word} `;
        yield { type: 'text', text, ...(numTopLogprobs === null ? {} : { tokens: [scored(text, numTopLogprobs)] }) };
      }
      await this.#turn(signal);
      yield {
        type: 'finish',
        finish: {
          reason:
            words.length > maxTokens
              ? 'length'
              : words.some((word) => word.includes('toolCall'))
                ? 'toolCalls'
                : 'stop',
          stopString,
          numCompletionTokens: Math.min(words.length, maxTokens),
          numCachedTokens: 0,
          statistics: {
            time_to_first_token_ms: 1,
            ms_per_token: 1,
            ms_by_stage: null,
            keys_read_per_head: null,
            keys_per_head: null,
            attention_mass: null,
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

/** A word is one token, as likely as not; the others are its letters. */
function scored(word: string, numTop: number): ScoredToken {
  const top = Array.from(word.slice(0, numTop), (letter) => ({ bytes: Buffer.from(letter), logprob: -2 }));
  return { bytes: Buffer.from(word), logprob: -Math.LN2, top };
}

function wordsOf(prompt: Prompt): string[] {
  return textsOf(prompt).flatMap((text) => text.split(' '));
}

function textsOf(prompt: Prompt): string[] {
  if (prompt.type === 'messages') return prompt.messages.map(({ content }) => content);
  return [prompt.type === 'text' ? prompt.text : prompt.tokens.join(' ')];
}

/** Tokens are the bytes of a text, behind BOS and EOS. */
const byteText: EngineText = {
  facts: async () => ({ vocabSize: 258, bosToken: '<s>', eosToken: '</s>', chatTemplate: '{{ messages }}' }),
  async tokenize(text, { addSpecial, parseSpecial }) {
    const pieces = parseSpecial ? text.split(/(<\/?s>)/) : [text];
    const tokens = pieces.flatMap((piece) =>
      piece === '<s>' ? [0] : piece === '</s>' ? [1] : Array.from(Buffer.from(piece), (byte) => byte + 2),
    );
    return Int32Array.from(addSpecial ? [0, ...tokens] : tokens);
  },
  async tokensOf(prompt) {
    if (wordsOf(prompt).includes('!refuse')) throw new CtkvrError('CTKVR_INVALID_OPTION', 'the template refused them');
    const numTools = prompt.type === 'messages' ? (prompt.toolUse?.tools.length ?? 0) : 0;
    return new Int32Array(wordsOf(prompt).length + numTools);
  },
  bytesOf: async (tokens) =>
    Array.from(tokens, (tokenId) =>
      tokenId < 2 ? Buffer.from(['<s>', '</s>'][tokenId]!) : Uint8Array.of(tokenId - 2),
    ),
  async applyTemplate({ messages }) {
    if (messages.some(({ content }) => content === '!refuse')) {
      throw new CtkvrError('CTKVR_INVALID_OPTION', 'the template refused the messages');
    }
    return messages.map(({ role, content }) => `${role}: ${content}\n`).join('');
  },
};

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
