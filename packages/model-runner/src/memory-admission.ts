/**
 * Sessions that wait for memory instead of being refused: acts on what the policy (`PageAdmission` of @ctkvr/scheduler) decides. Who is
 * preempted learns it the next time it asks for room, which is before its next token.
 */
import { CtkvrError } from '@ctkvr/core';
import { type AdmissionDecision, type AdmissionOptions, type AdmissionRequest, PageAdmission } from '@ctkvr/scheduler';
import { closedError } from './operation-errors.js';

export interface MemoryAdmissionParts extends AdmissionOptions {
  /** Bytes that all admitted sessions together may hold, asked whenever something has changed. */
  readonly budgetBytes: () => number;
  /** Told, whenever something has changed, how many bytes nobody has or waits for. Default: nobody is. */
  readonly onSpareBytes?: (bytes: number) => void;
}

export interface EnterOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called when the request has to wait. */
  readonly onWait?: (() => void) | undefined;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class MemoryAdmission {
  readonly #policy: PageAdmission;
  readonly #budgetBytes: () => number;
  readonly #onSpareBytes: (bytes: number) => void;
  readonly #rooms = new Map<number, AdmittedRoom>();
  /** What waiting ended with for good. */
  #ended: CtkvrError | null = null;

  constructor({ budgetBytes, onSpareBytes = () => {}, ...options }: MemoryAdmissionParts) {
    this.#policy = new PageAdmission(options);
    this.#budgetBytes = budgetBytes;
    this.#onSpareBytes = onSpareBytes;
  }

  /**
   * Resolves when the request's prompt has room; the room is the caller's to leave.
   * @throws {CtkvrError} CTKVR_OVERLOADED when too many wait, CTKVR_OUT_OF_MEMORY when the prompt does not fit alone, CTKVR_CLOSED; the reason
   * of `signal`.
   */
  async enter(request: AdmissionRequest, { signal, onWait }: EnterOptions = {}): Promise<AdmittedRoom> {
    if (this.#ended !== null) throw this.#ended;
    signal?.throwIfAborted();
    const id = this.#policy.arrive(request);
    const room = new AdmittedRoom(id, this.#policy, () => this.update());
    this.#rooms.set(id, room);
    room.onLeave = () => this.#rooms.delete(id);
    try {
      await room.wait(signal, onWait);
    } catch (error) {
      room.leave();
      throw error;
    }
    return room;
  }

  /** To be called when memory has come free that is not an admitted session's. */
  update(): void {
    const budgetBytes = this.#budgetBytes();
    this.#onSpareBytes(budgetBytes - this.#policy.wantedBytes);
    for (const decision of this.#policy.decide(budgetBytes)) this.#rooms.get(decision.id)?.decided(decision);
  }

  /** Ends all waiting, now and later: with CTKVR_CLOSED, or with why nothing runs any more. Idempotent. */
  close(error: CtkvrError = closedError('model')): void {
    this.#ended ??= error;
    for (const room of [...this.#rooms.values()]) room.endForGood(this.#ended);
  }
}

/** One session's place in the memory. Made by {@link MemoryAdmission.enter}. */
export class AdmittedRoom {
  /** @internal */
  onLeave: () => void = () => {};
  readonly #id: number;
  readonly #policy: PageAdmission;
  readonly #update: () => void;
  #waiter: Waiter | null = null;
  #isPreempted = false;
  #ended: unknown = null;
  /** Whether its memory has been given back. */
  #isOutside = false;

  constructor(id: number, policy: PageAdmission, update: () => void) {
    this.#id = id;
    this.#policy = policy;
    this.#update = update;
  }

  /** Bytes it has room for. */
  get bytes(): number {
    return this.#policy.bytesOf(this.#id);
  }

  /** Whether it is to give its memory back: see {@link giveBack}. */
  get isPreempted(): boolean {
    return this.#isPreempted;
  }

  /**
   * Resolves with true when there is room for `numTokens` in all, and with false when the memory is to be given back first.
   * @throws {CtkvrError} CTKVR_OUT_OF_MEMORY when nobody can make room; the reason of `signal`.
   */
  async grow(numTokens: number, signal: AbortSignal): Promise<boolean> {
    if (this.#isPreempted) return false;
    if (this.#policy.wantRoom(this.#id, numTokens)) return true;
    try {
      await this.wait(signal);
    } catch (error) {
      this.#policy.withdraw(this.#id);
      throw error;
    }
    return !this.#isPreempted;
  }

  /** To be called when the session holds nothing any more: resolves when there is room for `numTokens` again. @throws as {@link grow}. */
  async giveBack(numTokens: number, signal: AbortSignal): Promise<void> {
    if (!this.#isOutside) this.#policy.released(this.#id, numTokens);
    this.#isOutside = true;
    await this.wait(signal);
  }

  /** The memory can no longer be computed again: it is never asked back. */
  pin(): void {
    this.#policy.pin(this.#id);
  }

  /** The session holds nothing and asks for nothing any more. Idempotent. */
  leave(): void {
    this.#policy.leave(this.#id);
    this.onLeave();
    this.#update();
  }

  /** @internal */
  async wait(signal: AbortSignal | undefined, onWait: () => void = () => {}): Promise<void> {
    const onAbort = () => this.end(signal?.reason);
    const decided = new Promise<void>((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    else this.#update();
    if (this.#ended !== null) this.end(this.#ended);
    else if (this.#waiter !== null) onWait();
    try {
      await decided;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** @internal */
  decided({ type }: AdmissionDecision): void {
    if (type === 'refuse') {
      this.end(noMemory());
      return;
    }
    if (type === 'preempt') this.#isPreempted = true;
    if (type === 'admit') {
      this.#isPreempted = false;
      this.#isOutside = false;
    }
    this.#waiter?.resolve();
    this.#waiter = null;
  }

  /** @internal What waits later ends as well. */
  endForGood(error: unknown): void {
    this.#ended = error;
    this.end(error);
  }

  /** @internal */
  end(error: unknown): void {
    this.#waiter?.reject(error);
    this.#waiter = null;
  }
}

function noMemory(): CtkvrError {
  return new CtkvrError(
    'CTKVR_OUT_OF_MEMORY',
    'memory holds no more tokens of this session, and none that runs can make room',
    {
      remedy: 'ask for a shorter context, or give sessions more memory',
    },
  );
}
