/**
 * Rows of equal length in pages with copy on write: a fork shares all pages, and a page is copied when one side writes to it.
 */

/** Rows of one page. */
const pageRows = 256;

export class PagedRows {
  readonly rowLength: number;
  #length = 0;
  #pages: Float32Array[] = [];
  /** Number of pages, from the first on, that a fork may share. */
  #numShared = 0;

  constructor(rowLength: number) {
    this.rowLength = rowLength;
  }

  /** Rows held. */
  get length(): number {
    return this.#length;
  }

  /** Adds copies of `rows` (f32 [any, rowLength]) behind the others. */
  append(rows: Float32Array): void {
    for (let from = 0; from < rows.length; from += this.rowLength) {
      const page = Math.floor(this.#length / pageRows);
      if (page === this.#pages.length) this.#pages.push(new Float32Array(pageRows * this.rowLength));
      else if (page < this.#numShared) this.#pages[page] = this.#pages[page]!.slice();
      this.#numShared = Math.min(this.#numShared, page);
      const row = rows.subarray(from, from + this.rowLength);
      this.#pages[page]!.set(row, (this.#length % pageRows) * this.rowLength);
      this.#length++;
    }
  }

  /** Drops rows from `length` on. */
  truncate(length: number): void {
    this.#length = length;
    this.#pages.length = Math.ceil(length / pageRows);
    this.#numShared = Math.min(this.#numShared, this.#pages.length);
  }

  /** A second one with the same rows. */
  fork(): PagedRows {
    const fork = new PagedRows(this.rowLength);
    fork.#length = this.#length;
    fork.#pages = this.#pages.slice();
    fork.#numShared = this.#pages.length;
    this.#numShared = this.#pages.length;
    return fork;
  }

  /** Returns the product of row `row` with rowLength numbers of `vector` from `offset` on. */
  dot(row: number, vector: Float32Array, offset: number): number {
    const page = this.#pages[Math.floor(row / pageRows)]!;
    const start = (row % pageRows) * this.rowLength;
    let sum = 0;
    for (let d = 0; d < this.rowLength; d++) sum += vector[offset + d]! * page[start + d]!;
    return sum;
  }

  /** Writes row `row` to out[offset ...]. */
  load(row: number, out: Float32Array, offset: number): void {
    out.set(this.#row(row), offset);
  }

  /** Adds row `row` to out[offset ...]. */
  addTo(row: number, out: Float64Array, offset: number): void {
    const numbers = this.#row(row);
    for (let d = 0; d < this.rowLength; d++) out[offset + d]! += numbers[d]!;
  }

  #row(row: number): Float32Array {
    const start = (row % pageRows) * this.rowLength;
    return this.#pages[Math.floor(row / pageRows)]!.subarray(start, start + this.rowLength);
  }
}
