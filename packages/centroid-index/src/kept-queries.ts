/** Queries of appended tokens that may still become centroids: those that are in no segment, or will be in none after a cut. */

/** Immutable: forks share it. Positions ascend. */
export class KeptQueries {
  readonly positions: Uint32Array;
  /** f32 [positions.length, rowLength]. */
  readonly rows: Float32Array;
  readonly rowLength: number;

  constructor({ positions, rows, rowLength }: { positions: Uint32Array; rows: Float32Array; rowLength: number }) {
    this.positions = positions;
    this.rows = rows;
    this.rowLength = rowLength;
  }

  static none(rowLength: number): KeptQueries {
    return new KeptQueries({ positions: new Uint32Array(0), rows: new Float32Array(0), rowLength });
  }

  get sizeBytes(): number {
    return this.positions.byteLength + this.rows.byteLength;
  }

  /** With copies of the queries of `positions` behind: row i of `queries` belongs to position first + i. */
  with(input: {
    readonly positions: readonly number[];
    readonly queries: Float32Array;
    readonly first: number;
  }): KeptQueries {
    const { rowLength } = this;
    if (input.positions.length === 0) return this;
    const rows = new Float32Array(this.rows.length + input.positions.length * rowLength);
    rows.set(this.rows);
    input.positions.forEach((position, i) => {
      const row = position - input.first;
      const query = input.queries.subarray(row * rowLength, (row + 1) * rowLength);
      rows.set(query, this.rows.length + i * rowLength);
    });
    return new KeptQueries({ positions: Uint32Array.from([...this.positions, ...input.positions]), rows, rowLength });
  }

  /** Those of positions in [start, end), at most the last `most`. */
  of({ start, end, most }: { readonly start: number; readonly end: number; readonly most: number }): KeptQueries {
    const last = this.#place(end);
    const first = Math.min(last, Math.max(this.#place(start), last - most));
    return new KeptQueries({
      positions: this.positions.subarray(first, last),
      rows: this.rows.subarray(first * this.rowLength, last * this.rowLength),
      rowLength: this.rowLength,
    });
  }

  /** How many positions lie below `position`. */
  #place(position: number): number {
    let place = 0;
    while (place < this.positions.length && this.positions[place]! < position) place++;
    return place;
  }
}
