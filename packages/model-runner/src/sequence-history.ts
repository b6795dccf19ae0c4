/**
 * How a sequence came to hold what it holds. Computed again in the same parts, it holds the same bits: rows of a prompt, an index built at
 * the same length, and each generated token as a decode (docs/decisions/2026-12-01-same-bits.md).
 */

/** `end`: tokens stored when it was done. */
export interface HistoryPart {
  readonly kind: 'prefill' | 'build' | 'decode';
  readonly end: number;
}

export class SequenceHistory {
  /** null = it is not a plain row of parts any more. */
  #parts: HistoryPart[] | null = [];
  /** Parts that the sequence holds. */
  #numDone = 0;

  /** Whether what is held can be computed again. */
  get isPlain(): boolean {
    return this.#parts !== null;
  }

  /** The next part that is to be computed again. */
  get next(): HistoryPart | undefined {
    return this.#parts?.[this.#numDone];
  }

  /** {@link next} is held again. */
  done(): void {
    this.#numDone += 1;
  }

  /** What is held is what these parts make of nothing. */
  set(parts: readonly HistoryPart[]): void {
    this.#parts = [...parts];
    this.#numDone = parts.length;
  }

  add(part: HistoryPart): void {
    if (this.#parts === null) return;
    const last = this.#parts.at(-1);
    if (last?.kind === 'decode' && part.kind === 'decode') this.#parts[this.#parts.length - 1] = part;
    else this.#parts.push(part);
    this.#numDone = this.#parts.length;
  }

  /** The sequence holds nothing any more, and is to be computed again. */
  rewind(): void {
    this.#numDone = 0;
  }

  /** Tokens from `length` on are dropped for good. */
  cut(length: number): void {
    if (length === 0) this.#parts = [];
    else if ((this.#parts?.at(-1)?.end ?? 0) > length) this.#parts = null;
    this.#numDone = this.#parts?.length ?? 0;
  }

  /** Something happened that parts do not tell. */
  lose(): void {
    this.#parts = null;
    this.#numDone = 0;
  }
}
