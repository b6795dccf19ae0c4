/**
 * Watches generated text for stop strings, which may span tokens. Text that could be the beginning of one is held back until it is known,
 * so that no part of a stop string is ever emitted.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  /** UTF-16 units of text before `#held`. */
  #heldFrom = 0;

  /** @param stops strings to look for; empty ones are not allowed (they would stop everywhere). */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /**
   * Takes the next piece of text, returns what may be emitted. When a stop string is complete, `match` tells which and where in the
   * whole text it begins (UTF-16 units); `text` then ends right before it, and no more text may be pushed.
   */
  push(piece: string): {
    readonly text: string;
    readonly match: { readonly stop: string; readonly at: number } | null;
  } {
    this.#held += piece;
    const found = this.#find();
    if (found !== null) {
      const text = this.#held.slice(0, found.index);
      this.#held = '';
      return { text, match: { stop: found.stop, at: this.#heldFrom + found.index } };
    }
    return { text: this.#take(this.#held.length - this.#possibleStart()), match: null };
  }

  /** Returns what was held back: no stop string came of it. */
  flush(): string {
    return this.#take(this.#held.length);
  }

  #take(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    this.#heldFrom += length;
    return text;
  }

  /** The earliest stop string in the held text; of two at one place, the longer. */
  #find(): { stop: string; index: number } | null {
    let best: { stop: string; index: number } | null = null;
    for (const stop of this.#stops) {
      const index = this.#held.indexOf(stop);
      if (index < 0) continue;
      if (best === null || index < best.index || (index === best.index && stop.length > best.stop.length)) {
        best = { stop, index };
      }
    }
    return best;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  #possibleStart(): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, this.#held.length); length > longest; length--) {
        if (this.#held.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
