/** One caller's requests in a fair queue, and the tokens it was given. */
import type { QueueCaller } from './queue-request.js';

export interface QueueEntry {
  /** In order of arrival. */
  readonly id: number;
  readonly account: CallerAccount;
  readonly tokens: number;
  readonly deadlineMs: number;
  isRunning: boolean;
}

export class CallerAccount {
  readonly caller: QueueCaller;
  /** In order of arrival. */
  waiting: QueueEntry[] = [];
  numRunning = 0;
  /** Tokens by weight. */
  #given = 0;

  constructor(caller: QueueCaller) {
    this.caller = caller;
  }

  /** Tokens it was given, divided by its weight. */
  get given(): number {
    return this.#given;
  }

  /** Whether any of its requests waits or runs. */
  get isThere(): boolean {
    return this.numRunning + this.waiting.length > 0;
  }

  get canRunMore(): boolean {
    return this.numRunning < this.caller.maxRunning;
  }

  charge(tokens: number): void {
    this.#given += tokens / this.caller.weight;
  }

  raiseTo(given: number): void {
    this.#given = Math.max(this.#given, given);
  }

  start(entry: QueueEntry): void {
    this.waiting = this.waiting.filter((other) => other !== entry);
    this.numRunning += 1;
    entry.isRunning = true;
    this.charge(entry.tokens);
  }

  remove(entry: QueueEntry): void {
    if (entry.isRunning) this.numRunning -= 1;
    else this.waiting = this.waiting.filter((other) => other !== entry);
  }
}
