/**
 * Which models are loaded. A model is loaded for the first request that names it, one model at a time in order of arrival. Where the memory does
 * not hold it beside the others, those that were used longest ago are unloaded, each when its last request has ended. Requests that come for a
 * model on its way out wait in the same order, so that no model keeps another out for ever.
 */
import { setMaxListeners } from 'node:events';
import { CtkvrError, countOf } from '@ctkvr/core';
import type { Logger } from 'pino';

export interface PoolMember {
  readonly modelId: string;
  /** Bytes to count while it is loaded. */
  readonly neededBytes: number;
  load(): Promise<void>;
  /** Also called while `load` goes on, which then rejects. */
  unload(): Promise<void>;
}

export interface ModelPoolOptions {
  /** Bytes that loaded models may need together. A model that needs more than all of them is loaded alone. */
  readonly budgetBytes: number;
  /** Milliseconds after its last request at which a model is unloaded; null = never. */
  readonly unloadAfterMs: number | null;
  /** Requests that may wait for models to be loaded. */
  readonly maxWaiting: number;
  readonly logger: Logger;
}

interface Waiter {
  readonly admit: () => void;
  readonly refuse: (reason: unknown) => void;
}

interface Entry {
  readonly member: PoolMember;
  isLoaded: boolean;
  isLoading: boolean;
  /** Whether it is to be unloaded when its last user leaves. */
  isLeaving: boolean;
  /** Whether its load is in the order of turns. */
  isQueued: boolean;
  numUsers: number;
  /** Called when the last user leaves. */
  onUnused: () => void;
  readonly waiters: Set<Waiter>;
  /** Runs from its last request on; what only looks does not stop it. */
  idleTimer: NodeJS.Timeout | undefined;
}

export class ModelPool {
  readonly #options: ModelPoolOptions;
  /** In order of use: the one used longest ago comes first. */
  readonly #entries = new Map<PoolMember, Entry>();
  /** Loads and unloads, one after the other. Never rejects. */
  #turn: Promise<void> = Promise.resolve();
  #numWaiting = 0;
  readonly #close = new AbortController();

  constructor(options: ModelPoolOptions) {
    this.#options = options;
    setMaxListeners(0, this.closing); // each document that is being read listens: many are no leak
  }

  /** Aborts when the pool closes: what goes on by itself then gives its model back. */
  get closing(): AbortSignal {
    return this.#close.signal;
  }

  /**
   * Resolves when the model is loaded, with what gives it back: until that is called it stays loaded.
   * @throws what `load` throws; CTKVR_OVERLOADED when too many wait; CTKVR_CLOSED; the signal's reason.
   */
  async use(member: PoolMember, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.closing.aborted) throw poolClosed();
    const entry = this.#entryOf(member);
    if (entry.isLoaded && !entry.isLeaving) return this.#lease(entry);
    if (this.#numWaiting >= this.#options.maxWaiting) throw tooManyWait(this.#numWaiting);
    this.#numWaiting += 1;
    try {
      return await this.#wait(entry, signal);
    } finally {
      this.#numWaiting -= 1;
    }
  }

  /**
   * What gives the model back, where it is loaded; null where it is not. For what is not worth a load. It is no request: who only looks at a
   * model does not keep it from being unloaded for memory or when idle.
   */
  useIfLoaded(member: PoolMember): (() => void) | null {
    const entry = this.#entries.get(member);
    return entry?.isLoaded ? this.#hold(entry) : null;
  }

  /** Refuses who waits and who comes, breaks off what is being loaded, and unloads everything. Idempotent. */
  async close(): Promise<void> {
    this.#close.abort(poolClosed());
    for (const { waiters, isLoading, member } of this.#entries.values()) {
      for (const waiter of [...waiters]) waiter.refuse(poolClosed());
      if (isLoading) await member.unload();
    }
    await this.#inTurn(async () => {
      await Promise.all([...this.#entries.values()].map((entry) => this.#unload(entry)));
    });
  }

  #entryOf(member: PoolMember): Entry {
    const known = this.#entries.get(member);
    if (known !== undefined) return known;
    const entry: Entry = {
      member,
      isLoaded: false,
      isLoading: false,
      isLeaving: false,
      isQueued: false,
      numUsers: 0,
      onUnused: () => {},
      waiters: new Set(),
      idleTimer: undefined,
    };
    this.#entries.set(member, entry);
    return entry;
  }

  #lease(entry: Entry): () => void {
    stopIdling(entry);
    this.#entries.delete(entry.member);
    this.#entries.set(entry.member, entry);
    return this.#hold(entry);
  }

  #hold(entry: Entry): () => void {
    entry.numUsers += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      entry.numUsers -= 1;
      if (entry.numUsers === 0) this.#unused(entry);
    };
  }

  #unused(entry: Entry): void {
    entry.onUnused();
    const { unloadAfterMs } = this.#options;
    if (unloadAfterMs === null || entry.isLeaving || entry.idleTimer !== undefined) return;
    entry.idleTimer = setTimeout(() => {
      entry.idleTimer = undefined;
      void this.#inTurn(async () => {
        if (entry.numUsers === 0) await this.#unload(entry);
      });
    }, unloadAfterMs).unref();
  }

  #wait(entry: Entry, signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void) => {
        entry.waiters.delete(waiter);
        signal.removeEventListener('abort', onAbort);
        then();
      };
      const waiter: Waiter = {
        // Held from this very moment: what comes next in order must not take it away unused.
        admit: () => settle(() => resolve(this.#lease(entry))),
        refuse: (reason) => settle(() => reject(reason)),
      };
      const onAbort = () => waiter.refuse(signal.reason);
      entry.waiters.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
      if (entry.isQueued) return;
      entry.isQueued = true;
      void this.#inTurn(() => this.#load(entry));
    });
  }

  async #load(entry: Entry): Promise<void> {
    try {
      if (entry.waiters.size === 0) return;
      for (let leaver = this.#nextToLeave(entry); leaver !== null; leaver = this.#nextToLeave(entry)) {
        await this.#unload(leaver);
      }
      this.closing.throwIfAborted();
      entry.isLoading = true;
      await entry.member.load();
      entry.isLoaded = true;
      for (const waiter of [...entry.waiters]) waiter.admit();
      if (entry.numUsers === 0) this.#unused(entry); // all have left meanwhile
    } catch (error) {
      for (const waiter of [...entry.waiters]) waiter.refuse(error);
    } finally {
      entry.isQueued = false;
      entry.isLoading = false;
    }
  }

  /** The model used longest ago, when the loaded ones leave no room for `entry`; null when they do. */
  #nextToLeave({ member }: Entry): Entry | null {
    const loaded = [...this.#entries.values()].filter(({ isLoaded }) => isLoaded);
    const needed = loaded.reduce((sum, entry) => sum + entry.member.neededBytes, member.neededBytes);
    return needed > this.#options.budgetBytes ? (loaded[0] ?? null) : null;
  }

  async #unload(entry: Entry): Promise<void> {
    if (!entry.isLoaded) return;
    stopIdling(entry);
    entry.isLeaving = true;
    // Once more after each: somebody may have come to look.
    while (entry.numUsers > 0) {
      await new Promise<void>((resolve) => {
        entry.onUnused = resolve;
      });
    }
    entry.isLoaded = false; // who comes to look from here on finds it gone
    await entry.member.unload();
    entry.isLeaving = false;
    this.#options.logger.info({ model: entry.member.modelId }, 'unloaded');
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch((error: unknown) => this.#options.logger.error({ err: error }, 'could not unload a model'));
    return done;
  }
}

function stopIdling(entry: Entry): void {
  clearTimeout(entry.idleTimer);
  entry.idleTimer = undefined;
}

function tooManyWait(numWaiting: number): CtkvrError {
  return new CtkvrError('CTKVR_OVERLOADED', `${countOf(numWaiting, 'request')} already wait for a model to be loaded.`);
}

function poolClosed(): CtkvrError {
  return new CtkvrError('CTKVR_CLOSED', 'The server is closing its models.');
}
