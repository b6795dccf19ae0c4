/** The text side of a generation: bytes of tokens in, text that may be emitted out, and where to cut when a stop string was found. */
import { StopStrings } from './stop-strings.js';
import { Utf8Stream } from './utf8-stream.js';

export interface TokenText {
  readonly text: string;
  readonly stop: string | null;
}

export class AnswerText {
  readonly #utf8 = new Utf8Stream();
  readonly #stops: StopStrings;
  /** Text of all tokens, before stop strings are looked for. */
  #whole = '';
  /** Everything emitted. */
  #emitted = '';
  #numTokens = 0;
  /** Token counts at which the text so far is whole characters, with the text's length there. The first entry is the empty answer. */
  readonly #cuts: { readonly numTokens: number; readonly length: number }[] = [{ numTokens: 0, length: 0 }];

  constructor(stops: readonly string[]) {
    this.#stops = new StopStrings(stops);
  }

  get emitted(): string {
    return this.#emitted;
  }

  /** Takes one token's bytes; returns the text to emit, and the stop string it completes. */
  push(bytes: Uint8Array): TokenText {
    const piece = this.#utf8.push(bytes);
    this.#whole += piece;
    this.#numTokens += 1;
    if (this.#utf8.isComplete) this.#cuts.push({ numTokens: this.#numTokens, length: this.#whole.length });
    const { text, match } = this.#stops.push(piece);
    this.#emitted += text;
    if (match === null) return { text, stop: null };
    this.#whole = this.#whole.slice(0, match.at);
    while (this.#lastCut.length > match.at) this.#cuts.pop();
    return { text, stop: match.stop };
  }

  /** Returns what was held back for a stop string that did not come. */
  flush(): string {
    const text = this.#stops.flush();
    this.#emitted += text;
    return text;
  }

  /** After a stop string: tokens to keep so that none of the stop string stays, and their text. */
  get kept(): { readonly numTokens: number; readonly text: string } {
    const { numTokens, length } = this.#lastCut;
    return { numTokens, text: this.#whole.slice(0, length) };
  }

  get #lastCut(): { readonly numTokens: number; readonly length: number } {
    return this.#cuts.at(-1) ?? { numTokens: 0, length: 0 };
  }
}
