/** Long work of the reference runs in slices on the JavaScript thread, so that timers and sockets are served between them. */
import { CtkvrError } from '@ctkvr/core';

/** Longest the event loop is held, ms. */
const sliceMs = 20;

/** Slices of one call's work. */
export class TimeSlices {
  readonly #op: string;
  readonly #signal: AbortSignal | undefined;
  #end = performance.now() + sliceMs;

  /** @throws {CtkvrError} CTKVR_ABORTED when the signal is so already. */
  constructor(op: string, signal: AbortSignal | undefined) {
    this.#op = op;
    this.#signal = signal;
    this.#throwIfAborted();
  }

  /** Whether it is time to call `pause`. */
  get isOver(): boolean {
    return performance.now() >= this.#end;
  }

  /** Lets the event loop run once. @throws {CtkvrError} CTKVR_ABORTED. */
  async pause(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#throwIfAborted();
    this.#end = performance.now() + sliceMs;
  }

  #throwIfAborted(): void {
    if (this.#signal?.aborted !== true) return;
    throw new CtkvrError('CTKVR_ABORTED', `${this.#op} was aborted`, { cause: this.#signal.reason });
  }
}
