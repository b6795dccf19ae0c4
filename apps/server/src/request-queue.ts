/**
 * Decides how many requests run at once and how many may wait. Running requests share each engine step, so more of them raise
 * throughput but also memory (a KV cache each) and the time between two tokens of one; the rest wait in order, and beyond
 * `maxQueued` a request is refused at once rather than left to time out.
 */
import { ApiError } from './api-error.js';

export interface RequestQueueOptions {
  /** Requests that run at once. */
  readonly maxRunning: number;
  /** Requests that may wait; 0 = none. */
  readonly maxQueued: number;
}

/** Seconds a refused client is told to wait. One answer of a short chat takes about as long. */
const RETRY_AFTER_SECONDS = 2;

interface Waiter {
  readonly start: () => void;
  readonly refuse: (error: ApiError) => void;
}

export class RequestQueue {
  readonly #options: RequestQueueOptions;
  readonly #waiting = new Set<Waiter>();
  #numRunning = 0;
  #closed = false;

  constructor(options: RequestQueueOptions) {
    this.#options = options;
  }

  get numRunning(): number {
    return this.#numRunning;
  }

  get numQueued(): number {
    return this.#waiting.size;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Resolves with a function that gives the place back (idempotent) once the request may run.
   * @throws {ApiError} 503 `overloaded` when the queue is full, 503 `shutting_down` after close(), 499 when `signal` aborts first.
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    if (this.#closed) throw shuttingDown();
    if (signal.aborted) throw aborted();
    if (this.#numRunning < this.#options.maxRunning) {
      this.#numRunning += 1;
      return this.#leaveOnce();
    }
    if (this.#waiting.size >= this.#options.maxQueued) throw overloaded(this.#options);
    await this.#wait(signal);
    return this.#leaveOnce();
  }

  /** Refuses everyone who waits and everyone who comes; running requests are left alone. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiting]) waiter.refuse(shuttingDown());
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void) => {
        this.#waiting.delete(waiter);
        signal.removeEventListener('abort', onAbort);
        then();
      };
      const waiter: Waiter = { start: () => settle(resolve), refuse: (error) => settle(() => reject(error)) };
      const onAbort = () => waiter.refuse(aborted());
      this.#waiting.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** A place that is given back goes straight to the first who waits: the number running does not dip in between. */
  #leaveOnce(): () => void {
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const [next] = this.#waiting;
      if (next === undefined) this.#numRunning -= 1;
      else next.start();
    };
  }
}

function overloaded({ maxRunning, maxQueued }: RequestQueueOptions): ApiError {
  return new ApiError(503, `The server is busy: ${maxRunning} requests run and ${maxQueued} wait. Try again later.`, {
    code: 'overloaded',
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}

function shuttingDown(): ApiError {
  return new ApiError(503, 'The server is shutting down.', { code: 'shutting_down', retryAfterSeconds: 5 });
}

function aborted(): ApiError {
  return new ApiError(499, 'The request was cancelled before it started.', { code: 'request_aborted' });
}
