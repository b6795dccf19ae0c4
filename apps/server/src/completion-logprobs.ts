/** Log probabilities as POST /v1/completions has them: lists beside each other, with a place for each token. */
import { isUtf8 } from 'node:buffer';
import type { LikelyToken, ScoredToken } from './chat-engine.js';

export interface CompletionLogprobsValues {
  readonly tokens: readonly string[];
  /** Natural logarithms. */
  readonly token_logprobs: readonly number[];
  /** The likeliest in each token's place, and the token itself. */
  readonly top_logprobs: readonly Readonly<Record<string, number>>[];
  /** Characters (Unicode code points) of the answer before each token; of one that begins inside a character, before that. */
  readonly text_offset: readonly number[];
}

/** Of one answer, which comes in pieces. */
export class CompletionLogprobs {
  #numCharacters = 0;

  /** Returns the values of the tokens that come next. */
  add(tokens: readonly ScoredToken[]): CompletionLogprobsValues {
    return {
      tokens: tokens.map(nameOf),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map((token) =>
        Object.fromEntries([...token.top, token].map((one) => [nameOf(one), one.logprob])),
      ),
      text_offset: tokens.map((token) => this.#offsetOf(token)),
    };
  }

  #offsetOf({ bytes }: LikelyToken): number {
    const before = this.#numCharacters;
    this.#numCharacters += bytes.filter((byte) => !continuesCharacter(byte)).length;
    return bytes.length > 0 && continuesCharacter(bytes[0]!) ? Math.max(0, before - 1) : before;
  }
}

/** In UTF-8. */
function continuesCharacter(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

/** OpenAI's names: a token that is no text by itself is told by its bytes, so that two of them are not one key. */
function nameOf({ bytes }: LikelyToken): string {
  if (isUtf8(bytes)) return Buffer.from(bytes).toString('utf8');
  return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
}
