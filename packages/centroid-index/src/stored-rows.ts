/** The keys and values of an index in plain TypeScript, always equally many. */
import { PagedRows } from './paged-rows.js';

export class StoredRows {
  readonly keys: PagedRows;
  readonly values: PagedRows;

  private constructor(keys: PagedRows, values: PagedRows) {
    this.keys = keys;
    this.values = values;
  }

  /** Returns copies of rows, f32 [numTokens, headDim] both. */
  static of(rows: { readonly keys: Float32Array; readonly values: Float32Array }, headDim: number): StoredRows {
    const stored = new StoredRows(new PagedRows(headDim), new PagedRows(headDim));
    stored.keys.append(rows.keys);
    stored.values.append(rows.values);
    return stored;
  }

  /** Drops rows from `length` on. */
  truncate(length: number): void {
    this.keys.truncate(length);
    this.values.truncate(length);
  }

  fork(): StoredRows {
    return new StoredRows(this.keys.fork(), this.values.fork());
  }
}
