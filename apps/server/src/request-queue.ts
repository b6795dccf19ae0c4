/**
 * Decides how many requests run at once and how many may wait. Running requests share each engine step, so more of them raise
 * throughput but also memory (a KV cache each) and the time between two tokens of one; the rest wait in order. A place is held for
 * exactly as long as the work it was given for: there is nothing to give back, and so nothing to forget.
 */
import { checkInteger, countOf } from '@ctkvr/core';
import { ApiError, shuttingDown } from './api-error.js';

export interface RequestQueueOptions {
  /** Requests that run at once. */
  readonly maxRunning: number;
  /** Requests that may wait; 0 = none. Beyond that a request is refused at once. */
  readonly maxQueued: number;
  /** Milliseconds that a request may wait before it is refused. */
  readonly maxWaitMs: number;
}

/** What runs and waits unless told otherwise. */
export const defaultQueueOptions: RequestQueueOptions = {
  maxRunning: 4,
  // A waiting request costs its text only. With more, the last would wait longer than anybody does.
  maxQueued: 128,
  // Below the 10 minutes after which OpenAI's clients give up and ask again.
  maxWaitMs: 5 * 60_000,
};

/** The longest that setTimeout can wait; what is longer it takes for no time at all. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Seconds a refused client is told to wait. One answer of a short chat takes about as long. */
const RETRY_AFTER_SECONDS = 2;

interface Waiter {
  readonly start: () => void;
  readonly refuse: (reason: unknown) => void;
}

export class RequestQueue {
  readonly #options: RequestQueueOptions;
  readonly #waiting = new Set<Waiter>();
  #numRunning = 0;
  #closed = false;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION */
  constructor(options: Partial<RequestQueueOptions> = {}) {
    this.#options = { ...defaultQueueOptions, ...options };
    for (const [name, min] of [
      ['maxRunning', 1],
      ['maxQueued', 0],
      ['maxWaitMs', 1],
    ] as const) {
      checkInteger(this.#options[name], { op: 'RequestQueue', name, min, max: MAX_TIMEOUT_MS });
    }
  }

  get numRunning(): number {
    return this.#numRunning;
  }

  get numQueued(): number {
    return this.#waiting.size;
  }

  get maxRunning(): number {
    return this.#options.maxRunning;
  }

  /** Whether one more request would be refused at once. */
  get isFull(): boolean {
    const { maxRunning, maxQueued } = this.#options;
    return this.#numRunning >= maxRunning && this.#waiting.size >= maxQueued;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Runs `work` when a place is free and returns what it returns; the place is taken until `work` settles. `onQueued` is called when
   * it has to wait.
   * @throws {ApiError} 429 when the queue is full or the wait too long, 503 `shutting_down` after close(); the reason of `signal`
   *   when it aborts before the work begins.
   */
  async run<T>(signal: AbortSignal, work: () => Promise<T>, onQueued: () => void = () => {}): Promise<T> {
    await this.#enter(signal, onQueued);
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  /** Refuses everyone who waits and everyone who comes; running requests are left alone. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiting]) waiter.refuse(shuttingDown());
  }

  async #enter(signal: AbortSignal, onQueued: () => void): Promise<void> {
    if (this.#closed) throw shuttingDown();
    signal.throwIfAborted();
    if (this.isFull) throw queueFull(this.#options);
    if (this.#numRunning < this.#options.maxRunning) {
      this.#numRunning += 1;
      return;
    }
    const turn = this.#wait(signal);
    onQueued();
    await turn;
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void) => {
        this.#waiting.delete(waiter);
        clearTimeout(patience);
        signal.removeEventListener('abort', onAbort);
        then();
      };
      const waiter: Waiter = { start: () => settle(resolve), refuse: (reason) => settle(() => reject(reason)) };
      const onAbort = () => waiter.refuse(signal.reason);
      const patience = setTimeout(() => waiter.refuse(waitedTooLong(this.#options)), this.#options.maxWaitMs);
      this.#waiting.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** A place that comes free goes straight to the first who waits: the number running does not dip in between. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#numRunning -= 1;
    else next.start();
  }
}

function queueFull({ maxRunning, maxQueued }: RequestQueueOptions): ApiError {
  return busy('queue_full', `${countOf(maxRunning, 'request')} at once and ${maxQueued} that wait are all it takes.`);
}

function waitedTooLong({ maxRunning, maxWaitMs }: RequestQueueOptions): ApiError {
  return busy(
    'queue_timeout',
    `it takes ${countOf(maxRunning, 'request')} at once, and this one waited for ${countOf(maxWaitMs / 1000, 'second')}.`,
  );
}

function busy(code: string, why: string): ApiError {
  const message = `The server is busy: ${why} Try again later.`;
  return new ApiError(429, message, { code, retryAfterSeconds: RETRY_AFTER_SECONDS });
}
