/** The keys of highest score among those seen so far, in memory for those alone: keys stream by. */

/** A heap of at most `capacity` (score, position) pairs, the weakest on top. Positions are offered in ascending order. */
export class HighestKeys {
  readonly #scores: Float64Array;
  readonly #positions: Uint32Array;
  #size = 0;

  constructor(capacity: number) {
    this.#scores = new Float64Array(capacity);
    this.#positions = new Uint32Array(capacity);
  }

  clear(): void {
    this.#size = 0;
  }

  /** O(log capacity). Of equal scores the smaller position, offered first, stays. */
  offer(score: number, position: number): void {
    if (this.#size < this.#scores.length) {
      this.#put(this.#size++, score, position);
      this.#rise(this.#size - 1);
    } else if (score > this.#scores[0]!) {
      this.#put(0, score, position);
      this.#sink();
    }
  }

  /** Positions held, ascending; a copy. */
  positions(): Uint32Array {
    return this.#positions.slice(0, this.#size).sort();
  }

  #put(at: number, score: number, position: number): void {
    this.#scores[at] = score;
    this.#positions[at] = position;
  }

  /** Whether entry a goes before entry b does. */
  #isWeaker(a: number, b: number): boolean {
    const [x, y] = [this.#scores[a]!, this.#scores[b]!];
    return x < y || (x === y && this.#positions[a]! > this.#positions[b]!);
  }

  #rise(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#isWeaker(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(): void {
    for (let at = 0; ; ) {
      let weakest = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#size && this.#isWeaker(child, weakest)) weakest = child;
      }
      if (weakest === at) return;
      this.#swap(at, weakest);
      at = weakest;
    }
  }

  #swap(a: number, b: number): void {
    const [score, position] = [this.#scores[a]!, this.#positions[a]!];
    this.#put(a, this.#scores[b]!, this.#positions[b]!);
    this.#put(b, score, position);
  }
}
