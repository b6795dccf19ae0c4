/**
 * The log probabilities beside an answer's text. Each event waits for the next one: only then is it known that its tokens stay, which a
 * stop string takes away from the end.
 */
import type { ChatEvent, ScoredToken } from './chat-engine.js';
import { tokenLogprobs } from './token-logprobs.js';

export interface AnswerLogprobsOptions {
  /** Likeliest tokens to tell beside each. */
  readonly numTop: number;
  readonly tokenBytes: (tokenId: number) => Uint8Array;
  /** Tokens that end the turn: they are no part of the answer. */
  readonly endTokens: ReadonlySet<number>;
}

export interface GeneratedToken {
  readonly tokenId: number;
  readonly text: string;
  readonly logits: Float32Array | null;
}

export class AnswerLogprobs {
  readonly #options: AnswerLogprobsOptions;
  /** What waits. */
  #text = '';
  #tokens: ScoredToken[] = [];
  /** Tokens that were told. */
  #numTold = 0;

  constructor(options: AnswerLogprobsOptions) {
    this.#options = options;
  }

  /** Returns what no longer waits. */
  async push({ tokenId, text, logits }: GeneratedToken): Promise<ChatEvent[]> {
    const before = this.#text === '' ? [] : this.#take(this.#tokens.length); // without text it belongs to what comes
    this.#text += text;
    if (logits === null || this.#options.endTokens.has(tokenId)) return before;
    const { logprob, top } = await tokenLogprobs(logits, tokenId, this.#options.numTop);
    this.#tokens.push({
      bytes: this.#options.tokenBytes(tokenId),
      logprob,
      top: top.map((one) => ({ bytes: this.#options.tokenBytes(one.tokenId), logprob: one.logprob })),
    });
    return before;
  }

  /** Returns what still waited. @param numTokens of the whole answer. */
  end(numTokens: number): ChatEvent[] {
    const events = this.#take(numTokens - this.#numTold);
    return events.filter((event) => event.type === 'text' && (event.text !== '' || event.tokens?.length !== 0));
  }

  #take(numTokens: number): ChatEvent[] {
    const tokens = this.#tokens.slice(0, numTokens);
    const event: ChatEvent = { type: 'text', text: this.#text, tokens };
    this.#numTold += tokens.length;
    this.#text = '';
    this.#tokens = [];
    return [event];
  }
}
