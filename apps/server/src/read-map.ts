/** Where the attention of an answer went, as clients are told: the passages with more than a trace of it. */

/** Passages in ascending order, each with its share of the attention, 0 to 1, the mean over tokens. */
export type ReadMap = readonly (readonly [passage: number, share: number])[];

/** What is less is not told. */
const LEAST_SHARE = 0.0005;
/** Digits behind the point. */
const PRECISION = 1e5;

/** Adds up the maps of tokens. */
export class ReadMapSum {
  #shares = new Float64Array(0);
  #numTokens = 0;

  /** @param map f32, a share for each passage; null, where there is none, counts for nothing. */
  add(map: Float32Array | null): void {
    if (map === null) return;
    if (map.length > this.#shares.length) this.#grow(map.length);
    for (let i = 0; i < map.length; i++) this.#shares[i]! += map[i]!;
    this.#numTokens += 1;
  }

  /** Returns the mean of what was added since the last call; null when nothing was. */
  take(): ReadMap | null {
    if (this.#numTokens === 0) return null;
    const map: [number, number][] = [];
    for (const [passage, sum] of this.#shares.entries()) {
      const share = sum / this.#numTokens;
      if (share > LEAST_SHARE) map.push([passage, Math.round(share * PRECISION) / PRECISION]);
    }
    this.#shares.fill(0);
    this.#numTokens = 0;
    return map;
  }

  /** With room for an answer's next passages. */
  #grow(length: number): void {
    const grown = new Float64Array(length + 64);
    grown.set(this.#shares);
    this.#shares = grown;
  }
}
