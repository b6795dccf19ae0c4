/** The fewest tokens that a text can be, from its length alone: what is sure not to fit need not be tokenized to say so. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CtkvrError } from '@ctkvr/core';

/** Texts of fewer characters a token are not worth a look: they take a moment to tokenize. Usual ones have 3 to 5. */
const USUAL_LENGTH = 16;

/** Tokens between two turns of the event loop. */
const TOKENS_AT_ONCE = 100;

export interface Vocabulary {
  /** Token ids are below. */
  readonly size: number;
  tokenBytes(tokenId: number): Uint8Array;
}

export class LeastTokens {
  readonly #vocabulary: Vocabulary;
  /** Bytes of the longest token, looked up when first needed. */
  #longest: Promise<number> | null = null;

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  /**
   * @param length UTF-16 units of the text, each a byte of UTF-8 or more.
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED when it must be more than `maxTokens` tokens.
   */
  async check(length: number, maxTokens: number): Promise<void> {
    if (length <= maxTokens * USUAL_LENGTH) return;
    this.#longest ??= longestTokenBytes(this.#vocabulary);
    const least = Math.ceil(length / (await this.#longest));
    if (least <= maxTokens) return;
    throw new CtkvrError(
      'CTKVR_CONTEXT_EXCEEDED',
      `the context holds ${maxTokens} tokens, and a text of ${length} characters has at least ${least}`,
      { fields: { contextLength: maxTokens, promptTokens: least } },
    );
  }
}

async function longestTokenBytes(vocabulary: Vocabulary): Promise<number> {
  let longest = 1;
  for (let tokenId = 0; tokenId < vocabulary.size; tokenId += 1) {
    if (tokenId % TOKENS_AT_ONCE === 0) await nextTurn();
    longest = Math.max(longest, vocabulary.tokenBytes(tokenId).length);
  }
  return longest;
}
