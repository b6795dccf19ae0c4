/**
 * Which requests may hold memory, and how much. Pure policy: it keeps accounts and decides; who asks acts on the decisions.
 *
 * A request begins when its prompt and a small reserve fit beside what the others hold, not when its longest possible answer would.
 * Requests then grow page by page. Who came first goes first: while an older request lacks a page, no newer one gets any, and the newest
 * are preempted to make room: they give their memory back, wait at their old place, and compute it again later. The oldest is never
 * preempted, so that it ends, and with it, one after the other, everybody.
 */
import { CtkvrError, checkOptions, countOf, type OptionChecks, takes, UNBOUNDED } from '@ctkvr/core';
import { AdmissionEntry } from './admission-entry.js';
import type { AdmissionDecision, AdmissionOptions, AdmissionRequest } from './admission-request.js';

const DEFAULT_RESERVE_TOKENS = 256;
/** A waiting request costs its text only. */
const DEFAULT_MAX_WAITING = 128;

const optionChecks: OptionChecks<AdmissionOptions> = {
  pageSize: takes.integer(1, UNBOUNDED),
  reserveTokens: takes.optional(takes.integer(0, UNBOUNDED)),
  maxWaiting: takes.optional(takes.integer(1, UNBOUNDED)),
};

const requestChecks: OptionChecks<AdmissionRequest> = {
  numTokens: takes.integer(0, UNBOUNDED),
  maxTokens: takes.integer(0, UNBOUNDED),
  bytesFor: takes.func,
};

export class PageAdmission {
  readonly #pageSize: number;
  readonly #reserveTokens: number;
  readonly #maxWaiting: number;
  /** In order of arrival; so are the running ones. */
  #waiting: AdmissionEntry[] = [];
  #running: AdmissionEntry[] = [];
  #numArrived = 0;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION */
  constructor(options: AdmissionOptions) {
    checkOptions('PageAdmission', options, optionChecks);
    this.#pageSize = options.pageSize;
    this.#reserveTokens = options.reserveTokens ?? DEFAULT_RESERVE_TOKENS;
    this.#maxWaiting = options.maxWaiting ?? DEFAULT_MAX_WAITING;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }

  /** Requests that hold memory, those included that are about to give it back. */
  get numRunning(): number {
    return this.#running.length;
  }

  /** Bytes that one request has room for; 0 while it waits. */
  bytesOf(id: number): number {
    return this.#find(id)?.bytes ?? 0;
  }

  /** Bytes that running requests have room for. */
  get grantedBytes(): number {
    return this.#running.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes that all requests have room for or wait for, reserves included. */
  get wantedBytes(): number {
    const ofRunning = this.#running.reduce((sum, entry) => sum + entry.bytes + entry.missingBytes(), 0);
    return this.#waiting.reduce((sum, entry) => sum + entry.missingBytes(this.#reserveTokens), ofRunning);
  }

  /**
   * Puts a request behind the others and returns its id. It waits until {@link decide} admits it.
   * @throws {CtkvrError} CTKVR_OVERLOADED when as many wait as may; CTKVR_INVALID_OPTION.
   */
  arrive(request: AdmissionRequest): number {
    checkOptions('PageAdmission.arrive', request, requestChecks);
    const numWaiting = this.#waiting.length;
    if (numWaiting >= this.#maxWaiting) throw overloaded(this.#running.length, numWaiting);
    this.#numArrived += 1;
    this.#waiting.push(new AdmissionEntry(this.#numArrived, request, this.#pageSize));
    return this.#numArrived;
  }

  /** Asks room for so many tokens in all. Returns whether there is already; if not, the request waits for `grow` or `preempt`. */
  wantRoom(id: number, numTokens: number): boolean {
    const entry = this.#runningEntry(id);
    entry.want(numTokens);
    return !entry.isDeferred && !entry.isPreempted;
  }

  /** Asks no more room than there is: whoever asked has stopped waiting. */
  withdraw(id: number): void {
    this.#find(id)?.withdraw();
  }

  /** From now on a request's memory cannot be computed again (it is shared, or not a plain prompt and answer): it is never preempted. */
  pin(id: number): void {
    const entry = this.#find(id);
    if (entry !== undefined) entry.canBePreempted = false;
  }

  /** A preempted request holds nothing any more: it waits at its old place, for room for `numTokens`. */
  released(id: number, numTokens: number): void {
    const entry = this.#runningEntry(id);
    this.#running = this.#running.filter((other) => other !== entry);
    entry.release();
    entry.want(numTokens);
    const place = this.#waiting.findIndex((other) => other.id > id);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, entry);
  }

  /** A request has ended, however it did, and holds nothing. Idempotent. */
  leave(id: number): void {
    this.#waiting = this.#waiting.filter((entry) => entry.id !== id);
    this.#running = this.#running.filter((entry) => entry.id !== id);
  }

  /**
   * Returns what is to happen now, in order. To be called when anything has changed. Until a refused request leaves, and a preempted one is
   * released, it holds what it held. Each decision is given once.
   * @param budgetBytes what all running requests together may hold. When it falls below what they hold, nobody gets more.
   */
  decide(budgetBytes: number): AdmissionDecision[] {
    const decisions: AdmissionDecision[] = [];
    const served = this.#growRunning(budgetBytes, decisions);
    if (served) this.#admitWaiting(budgetBytes, decisions);
    return decisions;
  }

  /** Returns whether every running request has the room it wants. */
  #growRunning(budgetBytes: number, decisions: AdmissionDecision[]): boolean {
    for (const entry of this.#running) {
      if (!entry.isDeferred || entry.isPreempted) continue;
      const shortBytes = this.grantedBytes + entry.missingBytes() - budgetBytes;
      if (shortBytes > 0) {
        this.#makeRoom(entry, shortBytes, decisions);
        return false;
      }
      entry.grant();
      decisions.push({ type: 'grow', id: entry.id });
    }
    return true;
  }

  /** Preempts the newest until what they hold is enough; nobody where all of them together would not be. */
  #makeRoom(entry: AdmissionEntry, shortBytes: number, decisions: AdmissionDecision[]): void {
    let comingBytes = sumBytes(this.#running.filter(({ isPreempted }) => isPreempted));
    const victims: AdmissionEntry[] = [];
    for (const other of [...this.#running].reverse()) {
      if (comingBytes >= shortBytes || other === entry) break;
      if (other.isPreempted || !other.canBePreempted) continue;
      victims.push(other);
      comingBytes += other.bytes;
    }
    if (comingBytes >= shortBytes) {
      for (const victim of victims) {
        victim.isPreempted = true;
        decisions.push({ type: 'preempt', id: victim.id });
      }
      return;
    }
    // Where all wait for each other nobody will leave by itself. `entry` is the oldest then.
    const isStuck = this.#running.every((other) => other.isDeferred && !other.isPreempted && !other.isRefused);
    const pinned = this.#running.filter((other) => other !== entry && !other.canBePreempted).at(-1);
    if (isStuck) refuse(pinned ?? entry, decisions);
  }

  #admitWaiting(budgetBytes: number, decisions: AdmissionDecision[]): void {
    for (;;) {
      const first = this.#waiting[0];
      if (first === undefined) return;
      const isAlone = this.#running.length === 0;
      const freeBytes = budgetBytes - this.grantedBytes;
      if (first.missingBytes(isAlone ? 0 : this.#reserveTokens) > freeBytes) {
        if (isAlone && !first.isRefused) refuse(first, decisions);
        return;
      }
      this.#waiting.shift();
      first.grant();
      const place = this.#running.findIndex((other) => other.id > first.id);
      this.#running.splice(place < 0 ? this.#running.length : place, 0, first);
      decisions.push({ type: 'admit', id: first.id });
    }
  }

  #find(id: number): AdmissionEntry | undefined {
    return this.#running.find((entry) => entry.id === id) ?? this.#waiting.find((entry) => entry.id === id);
  }

  #runningEntry(id: number): AdmissionEntry {
    const entry = this.#running.find((other) => other.id === id);
    if (entry !== undefined) return entry;
    throw new CtkvrError('CTKVR_INTERNAL', `request ${id} does not run`, { fields: { id } });
  }
}

function refuse(entry: AdmissionEntry, decisions: AdmissionDecision[]): void {
  entry.isRefused = true;
  decisions.push({ type: 'refuse', id: entry.id });
}

function sumBytes(entries: readonly AdmissionEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function overloaded(numRunning: number, numWaiting: number): CtkvrError {
  return new CtkvrError(
    'CTKVR_OVERLOADED',
    `the memory is held by ${countOf(numRunning, 'request')}, and ${numWaiting} wait for it`,
    {
      fields: { numRunning, numWaiting },
      remedy: 'ask again later, or allow more to wait',
    },
  );
}
