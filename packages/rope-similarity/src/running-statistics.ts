/** Mean, extremes and spread of many streams of numbers at once, in one pass and constant memory. */

/** Statistics of rows of numbers, each f64 [numRows]; NaN for a row without numbers. */
export interface RowStatistics {
  readonly mean: Float64Array;
  readonly min: Float64Array;
  readonly max: Float64Array;
  /** Of the whole population (divided by the count). */
  readonly standardDeviation: Float64Array;
}

/** Accumulates one number a row at a time (Welford's method: no sum of squares that would cancel). */
export class RunningStatistics {
  readonly #count: Float64Array;
  readonly #mean: Float64Array;
  readonly #squares: Float64Array;
  readonly #min: Float64Array;
  readonly #max: Float64Array;

  constructor(numRows: number) {
    this.#count = new Float64Array(numRows);
    this.#mean = new Float64Array(numRows);
    this.#squares = new Float64Array(numRows);
    this.#min = new Float64Array(numRows).fill(Number.NaN);
    this.#max = new Float64Array(numRows).fill(Number.NaN);
  }

  add(row: number, value: number): void {
    const count = ++this.#count[row]!;
    const fromOldMean = value - this.#mean[row]!;
    this.#mean[row]! += fromOldMean / count;
    this.#squares[row]! += fromOldMean * (value - this.#mean[row]!);
    if (count === 1 || value < this.#min[row]!) this.#min[row] = value;
    if (count === 1 || value > this.#max[row]!) this.#max[row] = value;
  }

  result(): RowStatistics {
    const of = (values: Float64Array) => values.map((value, row) => (this.#count[row] === 0 ? Number.NaN : value));
    const standardDeviation = this.#squares.map((squares, row) => Math.sqrt(squares / this.#count[row]!));
    return { mean: of(this.#mean), min: of(this.#min), max: of(this.#max), standardDeviation: of(standardDeviation) };
  }
}
