/**
 * Which request runs next. Pure: it keeps accounts and says who starts; times are told, nothing is awaited.
 *
 * Every caller has an account of the tokens it was given, divided by its weight; of those who wait, the one with the smallest goes first
 * (the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024). One that comes back from idling
 * begins at the smallest account of those who are there: it can save up no turns, and keeps its debts.
 */
import { CtkvrError, checkOptions, countOf, type OptionChecks, takes, UNBOUNDED } from '@ctkvr/core';
import { CallerAccount, type QueueEntry } from './caller-account.js';
import type { FairQueueOptions, QueueCaller, QueueRequest } from './queue-request.js';

/** Of so many starts one is for lower priorities, where they wait: low is slow, never starved. */
export const STARTS_PER_LOWER_START = 8;

const optionChecks: OptionChecks<FairQueueOptions> = {
  maxRunning: takes.integer(1, UNBOUNDED),
  maxQueued: takes.integer(0, UNBOUNDED),
};

export class FairQueue {
  readonly #options: FairQueueOptions;
  readonly #accounts = new Map<string, CallerAccount>();
  readonly #entries = new Map<number, QueueEntry>();
  #numArrived = 0;
  #numRunning = 0;
  /** Starts in a row at which a lower priority was passed over. */
  #numPassedOver = 0;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION */
  constructor(options: FairQueueOptions) {
    checkOptions('FairQueue', options, optionChecks);
    this.#options = options;
  }

  get numRunning(): number {
    return this.#numRunning;
  }

  get numWaiting(): number {
    return this.#entries.size - this.#numRunning;
  }

  /** When the next one stops waiting; Infinity when none waits. */
  get nextDeadlineMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { isRunning, deadlineMs } of this.#entries.values()) if (!isRunning) next = Math.min(next, deadlineMs);
    return next;
  }

  /** Whether a request of this caller would be refused now. */
  isFullFor(caller: QueueCaller): boolean {
    return !this.#canStart(caller) && !this.#canWait(caller);
  }

  /**
   * Takes a request in; it runs at once where there is room.
   * @throws {CtkvrError} CTKVR_OVERLOADED when as many wait as may, of all or of this caller.
   */
  arrive({ caller, tokens, deadlineMs }: QueueRequest): { readonly id: number; readonly isRunning: boolean } {
    const canStart = this.#canStart(caller);
    if (!canStart && !this.#canWait(caller)) throw this.#overloaded(caller);
    this.#numArrived += 1;
    const account = this.#enter(caller);
    const entry: QueueEntry = { id: this.#numArrived, account, tokens, deadlineMs, isRunning: false };
    this.#entries.set(entry.id, entry);
    account.waiting.push(entry);
    if (canStart) this.#start(entry);
    return { id: entry.id, isRunning: canStart };
  }

  /** Adds to what a running request's caller was given; negative takes back. */
  charge(id: number, tokens: number): void {
    this.#entries.get(id)?.account.charge(tokens);
  }

  /** A request has ended, or waits no more. Returns the ids of those that run now instead. Idempotent. */
  leave(id: number, nowMs: number): number[] {
    const entry = this.#entries.get(id);
    if (entry === undefined) return [];
    this.#entries.delete(id);
    entry.account.remove(entry);
    if (entry.isRunning) this.#numRunning -= 1;
    // With nobody there, who had how much before is past.
    if (this.#entries.size === 0) this.#accounts.clear();
    return this.#startNext(nowMs);
  }

  /** Returns the ids of those whose deadline has passed while they waited; they have left. */
  expire(nowMs: number): number[] {
    const late = [...this.#entries.values()].filter(({ isRunning, deadlineMs }) => !isRunning && deadlineMs <= nowMs);
    for (const entry of late) {
      this.#entries.delete(entry.id);
      entry.account.remove(entry);
    }
    return late.map(({ id }) => id);
  }

  #canStart({ name, maxRunning }: QueueCaller): boolean {
    const running = this.#accounts.get(name)?.numRunning ?? 0;
    return this.#numRunning < this.#options.maxRunning && running < maxRunning;
  }

  #canWait({ name, maxQueued }: QueueCaller): boolean {
    const waiting = this.#accounts.get(name)?.waiting.length ?? 0;
    return this.numWaiting < this.#options.maxQueued && waiting < maxQueued;
  }

  #enter(caller: QueueCaller): CallerAccount {
    let account = this.#accounts.get(caller.name);
    if (account === undefined) {
      account = new CallerAccount(caller);
      this.#accounts.set(caller.name, account);
    }
    if (!account.isThere) account.raiseTo(this.#smallestAccount());
    return account;
  }

  /** Of the callers who are there; 0 when nobody is. */
  #smallestAccount(): number {
    let smallest = Number.POSITIVE_INFINITY;
    for (const { isThere, given } of this.#accounts.values()) if (isThere) smallest = Math.min(smallest, given);
    return Number.isFinite(smallest) ? smallest : 0;
  }

  #startNext(nowMs: number): number[] {
    const started: number[] = [];
    while (this.#numRunning < this.#options.maxRunning) {
      const entry = this.#choose(nowMs);
      if (entry === null) break;
      this.#start(entry);
      started.push(entry.id);
    }
    return started;
  }

  #start(entry: QueueEntry): void {
    entry.account.start(entry);
    this.#numRunning += 1;
  }

  #choose(nowMs: number): QueueEntry | null {
    const firsts: QueueEntry[] = [];
    for (const account of this.#accounts.values()) {
      const first = account.canRunMore ? account.waiting.find(({ deadlineMs }) => deadlineMs > nowMs) : undefined;
      if (first !== undefined) firsts.push(first);
    }
    if (firsts.length === 0) return null;
    const top = Math.max(...firsts.map(({ account }) => account.caller.priority));
    const lower = firsts.filter(({ account }) => account.caller.priority < top);
    const isLowersTurn = lower.length > 0 && this.#numPassedOver >= STARTS_PER_LOWER_START - 1;
    this.#numPassedOver = lower.length === 0 || isLowersTurn ? 0 : this.#numPassedOver + 1;
    const candidates = isLowersTurn ? lower : firsts.filter(({ account }) => account.caller.priority === top);
    return candidates.reduce((best, entry) => (comesBefore(entry, best) ? entry : best));
  }

  #overloaded({ name, maxRunning, maxQueued }: QueueCaller): CtkvrError {
    const all = this.#options;
    const isCallers = this.numWaiting < all.maxQueued;
    const most = isCallers ? { maxRunning: Math.min(maxRunning, all.maxRunning), maxQueued } : all;
    const whose = isCallers ? ` of ${name}` : '';
    return new CtkvrError(
      'CTKVR_OVERLOADED',
      `${countOf(most.maxRunning, 'request')} at once and ${most.maxQueued} that wait${whose} are all it takes`,
      { fields: { caller: name, ...most } },
    );
  }
}

function comesBefore(a: QueueEntry, b: QueueEntry): boolean {
  return a.account.given === b.account.given ? a.id < b.id : a.account.given < b.account.given;
}
