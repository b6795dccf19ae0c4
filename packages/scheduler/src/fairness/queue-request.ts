/** What a fair queue is told of a request and of whoever asks. */

export interface QueueCaller {
  /** Requests of the same one are started in order of arrival. */
  readonly name: string;
  /** Its share of tokens where several callers wait; above 0. */
  readonly weight: number;
  /** Requests of a higher one are started first, but for one start in eight. */
  readonly priority: number;
  /** Its requests that run at once, 1 or more. */
  readonly maxRunning: number;
  /** Its requests that may wait, 0 or more. */
  readonly maxQueued: number;
}

export interface QueueRequest {
  readonly caller: QueueCaller;
  /** What it will cost as far as is known: tokens of its prompt. */
  readonly tokens: number;
  /** When it stops waiting, ms on the clock of `nowMs`. */
  readonly deadlineMs: number;
}

export interface FairQueueOptions {
  /** Requests that run at once, 1 or more. */
  readonly maxRunning: number;
  /** Requests that may wait, 0 or more. */
  readonly maxQueued: number;
}
