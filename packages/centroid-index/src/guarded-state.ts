/** The state of an index in plain TypeScript, changed by one operation at a time: calls meanwhile, and after close, are refused. */
import { CtkvrError } from '@ctkvr/core';
import { inSlices } from './in-slices.js';
import type { IndexState } from './index-grower.js';
import { KeptQueries } from './kept-queries.js';
import type { StoredRows } from './stored-rows.js';

export class GuardedState {
  readonly #rows: StoredRows;
  #state: IndexState;
  #busy = false;
  #closed = false;

  /** @param rows the keys and values that the state is over; an operation that fails leaves them as long as they were. */
  constructor(rows: StoredRows, state: IndexState) {
    this.#rows = rows;
    this.#state = state;
  }

  /** Returns the state. @throws {CtkvrError} CTKVR_CLOSED, CTKVR_BUSY. */
  open(): IndexState {
    if (this.#closed) throw new CtkvrError('CTKVR_CLOSED', 'this CentroidIndex was closed; build another one');
    if (this.#busy) {
      throw new CtkvrError('CTKVR_BUSY', 'the index is being changed; wait for that to end, or use a fork made before');
    }
    return this.#state;
  }

  set(state: IndexState): void {
    this.#state = state;
  }

  /** Runs work that makes another state, refusing other calls meanwhile. When it fails, rows and state are as before. */
  async change(work: Generator<void, IndexState>, op: string, signal: AbortSignal | undefined): Promise<void> {
    this.open();
    this.#busy = true;
    try {
      this.#state = await inSlices(work, op, signal);
    } catch (error) {
      this.#rows.truncate(this.#state.numTokens);
      throw error;
    } finally {
      this.#busy = false;
      if (this.#closed) this.#free();
    }
  }

  /** Frees what is held, once no operation runs. Idempotent. */
  close(): void {
    this.#closed = true;
    if (!this.#busy) this.#free();
  }

  #free(): void {
    this.#rows.truncate(0);
    this.#state = { ...this.#state, row: null, kept: KeptQueries.none(0) };
  }
}
