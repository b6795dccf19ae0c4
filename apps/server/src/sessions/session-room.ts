/** Keeps the sessions of each owner within their number, also when many are made at once: those of one owner are made one after the other. */
import { ApiError } from '../api-error.js';
import type { ServedSessions } from './served-sessions.js';

export class SessionRoom {
  readonly #sessions: ServedSessions;
  readonly #maxSessions: number;
  /** By owner: settles when the last of those that wait has been made, or refused. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(sessions: ServedSessions, maxSessions: number) {
    this.#sessions = sessions;
    this.#maxSessions = maxSessions;
  }

  /** Nothing is removed to make room: whoever holds the sessions knows which may go. @throws {ApiError} 400 when there is none. */
  async check(owner: string): Promise<void> {
    if ((await this.#sessions.count(owner)) < this.#maxSessions) return;
    throw new ApiError(
      400,
      `There are ${this.#maxSessions} sessions, which is all this server keeps: delete some first.`,
      { code: 'too_many_sessions' },
    );
  }

  /** Returns what `make` does, which adds one session. @throws {ApiError} as `check`. */
  async make<T>(owner: string, make: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(owner) ?? Promise.resolve();
    const made = before.then(async () => {
      await this.check(owner);
      return await make();
    });
    const settled = made.catch(() => {}); // told below
    this.#turns.set(owner, settled);
    try {
      return await made;
    } finally {
      if (this.#turns.get(owner) === settled) this.#turns.delete(owner);
    }
  }
}
