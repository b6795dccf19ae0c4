/**
 * One long call on a session (a prefill or a generation): joins the caller's AbortSignal with the session's close, and knows whether work
 * of it is in the engine right now.
 */
import { abortedError } from './operation-errors.js';

export class Operation {
  readonly name: string;
  readonly #controller = new AbortController();
  readonly #userSignal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  #inFlight: Promise<unknown> | null = null;

  constructor(name: string, userSignal: AbortSignal | undefined) {
    this.name = name;
    this.#userSignal = userSignal;
    this.#onAbort = () => this.abort(abortedError(name, userSignal?.reason));
    if (userSignal?.aborted) this.#onAbort();
    else userSignal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Ends the operation with `error` at its next step. */
  abort(error: Error): void {
    this.#controller.abort(error);
  }

  /** @throws the error the operation was aborted with. */
  check(): void {
    if (this.signal.aborted) throw this.signal.reason;
  }

  /** Awaits engine work, so that {@link settled} knows of it. */
  async track<T>(work: Promise<T>): Promise<T> {
    this.#inFlight = work;
    try {
      return await work;
    } finally {
      this.#inFlight = null;
    }
  }

  get isInEngine(): boolean {
    return this.#inFlight !== null;
  }

  /** Resolves when the engine no longer works for this operation. */
  async settled(): Promise<void> {
    await this.#inFlight?.catch(() => {});
  }

  /** Stops listening to the caller's signal. */
  end(): void {
    this.#userSignal?.removeEventListener('abort', this.#onAbort);
  }
}
