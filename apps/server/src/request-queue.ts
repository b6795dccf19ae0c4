/**
 * Decides how many requests run at once and how many may wait. Running requests share each engine step, so more of them raise
 * throughput but also memory (a KV cache each) and the time between two tokens of one; the rest wait, and `FairQueue` of
 * @ctkvr/scheduler says who is next. A slot is held for exactly as long as the work it was given for: there is nothing to give back,
 * and so nothing to forget.
 */
import { CtkvrError, checkInteger, countOf } from '@ctkvr/core';
import { FairQueue } from '@ctkvr/scheduler';
import { ApiError, shuttingDown } from './api-error.js';
import { anyone, type Caller } from './keys/caller.js';

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

/** What a request asks of the queue. */
export interface Turn {
  /** Default: whoever has no key. */
  readonly caller?: Caller;
  /** Of its prompt. Default 0. */
  readonly tokens?: number;
  /** Milliseconds that it wants to wait at most, where that is less than the queue's. */
  readonly maxWaitMs?: number | undefined;
  /** Called when it has to wait. */
  readonly onQueued?: () => void;
}

/** The right of a request to run. */
export interface Slot {
  /** Counts tokens that it was given towards its caller's share; negative takes back. */
  charge(tokens: number): void;
}

interface Waiter {
  readonly maxWaitMs: number;
  readonly start: () => void;
  readonly refuse: (reason: unknown) => void;
}

export class RequestQueue {
  readonly #options: RequestQueueOptions;
  readonly #queue: FairQueue;
  /** By the queue's ids. */
  readonly #waiters = new Map<number, Waiter>();
  #alarm: NodeJS.Timeout | undefined;
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
    const { maxRunning, maxQueued } = this.#options;
    this.#queue = new FairQueue({ maxRunning, maxQueued });
  }

  get numRunning(): number {
    return this.#queue.numRunning;
  }

  get numQueued(): number {
    return this.#queue.numWaiting;
  }

  get maxRunning(): number {
    return this.#options.maxRunning;
  }

  get maxQueued(): number {
    return this.#options.maxQueued;
  }

  /** Whether one more request would be refused at once. */
  get isFull(): boolean {
    return this.#queue.isFullFor(anyone);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Runs `work` when a slot is free and returns what it returns; the slot is taken until `work` settles.
   * @throws {ApiError} 429 when the queue is full or the wait too long, 503 `shutting_down` after close(); the reason of `signal`
   *   when it aborts before the work begins.
   */
  async run<T>(signal: AbortSignal, work: (slot: Slot) => Promise<T>, turn: Turn = {}): Promise<T> {
    if (this.#closed) throw shuttingDown();
    signal.throwIfAborted();
    const { caller = anyone, tokens = 0, onQueued } = turn;
    const maxWaitMs = Math.min(turn.maxWaitMs ?? MAX_TIMEOUT_MS, this.#options.maxWaitMs);
    const { id, isRunning } = this.#arrive({ caller, tokens, deadlineMs: performance.now() + maxWaitMs });
    try {
      if (!isRunning) {
        const started = this.#wait(id, signal, maxWaitMs);
        onQueued?.();
        await started;
      }
      return await work({ charge: (given) => this.#queue.charge(id, given) });
    } finally {
      this.#leave(id);
    }
  }

  /** Refuses everyone who waits and everyone who comes; running requests are left alone. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiters.values()]) waiter.refuse(shuttingDown());
  }

  #arrive(request: Parameters<FairQueue['arrive']>[0]): ReturnType<FairQueue['arrive']> {
    try {
      return this.#queue.arrive(request);
    } catch (error) {
      if (!CtkvrError.isInstance(error) || error.code !== 'CTKVR_OVERLOADED') throw error;
      throw busy('queue_full', `${error.message}.`);
    }
  }

  #wait(id: number, signal: AbortSignal, maxWaitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void) => {
        this.#waiters.delete(id);
        signal.removeEventListener('abort', onAbort);
        then();
      };
      const refuse = (reason: unknown) => settle(() => reject(reason));
      const onAbort = () => refuse(signal.reason);
      this.#waiters.set(id, { maxWaitMs, start: () => settle(resolve), refuse });
      signal.addEventListener('abort', onAbort, { once: true });
      this.#setAlarm();
    });
  }

  /** A slot that comes free goes straight to the next who waits: the number running does not dip in between. */
  #leave(id: number): void {
    for (const started of this.#queue.leave(id, performance.now())) this.#waiters.get(started)?.start();
    this.#setAlarm();
  }

  /** Rings when the next one has waited long enough. */
  #setAlarm(): void {
    clearTimeout(this.#alarm);
    const inMs = this.#queue.nextDeadlineMs - performance.now();
    if (inMs === Number.POSITIVE_INFINITY) return;
    this.#alarm = setTimeout(() => this.#refuseLate(), Math.max(0, Math.ceil(inMs)));
  }

  #refuseLate(): void {
    for (const id of this.#queue.expire(performance.now())) {
      const waiter = this.#waiters.get(id);
      waiter?.refuse(waitedTooLong(this.#options.maxRunning, waiter.maxWaitMs));
    }
    this.#setAlarm();
  }
}

function waitedTooLong(maxRunning: number, waitedMs: number): ApiError {
  return busy(
    'queue_timeout',
    `it takes ${countOf(maxRunning, 'request')} at once, and this one waited for ${countOf(waitedMs / 1000, 'second')}.`,
  );
}

function busy(code: string, why: string): ApiError {
  const message = `The server is busy: ${why} Try again later.`;
  return new ApiError(429, message, { code, retryAfterSeconds: RETRY_AFTER_SECONDS });
}
