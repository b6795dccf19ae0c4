/**
 * Which of a sequence's last queries the engine still holds: an index takes its centroids from them. The engine keeps the queries of the last
 * `numCentroids` positions it has run; dropping positions drops their queries and does not bring earlier ones back. Counted here from the
 * outside, never too many.
 */
export class HeldQueries {
  /** Queries of positions from here to the end are held. */
  #from = 0;
  #length = 0;
  #capacity: number;

  /** @param capacity the selector's numCentroids. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get count(): number {
    return this.#length - this.#from;
  }

  /** Tokens were stored, or may have been, up to `length`. */
  grownTo(length: number): void {
    this.#length = Math.max(this.#length, length);
    this.#from = Math.max(this.#from, this.#length - this.#capacity);
  }

  truncatedTo(length: number): void {
    this.#length = Math.min(this.#length, length);
    this.#from = Math.min(this.#from, this.#length);
  }

  /** The selector wants another number of centroids: more are held from now on, or fewer at once. */
  resizedTo(capacity: number): void {
    this.#capacity = capacity;
    this.#from = Math.max(this.#from, this.#length - capacity);
  }

  copy(): HeldQueries {
    const copy = new HeldQueries(this.#capacity);
    copy.#from = this.#from;
    copy.#length = this.#length;
    return copy;
  }
}
