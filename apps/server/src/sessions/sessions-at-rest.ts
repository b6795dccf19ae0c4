/** Sessions of a model that is not loaded: what is on disk is all that there is of them. */
import type { KeptSessions, SessionInfo, SessionKey } from './document-sessions.js';
import type { SavedSessions } from './saved-sessions.js';

export class SessionsAtRest implements KeptSessions {
  readonly #saved: SavedSessions;

  constructor(saved: SavedSessions) {
    this.#saved = saved;
  }

  async list(owner: string): Promise<SessionInfo[]> {
    return (await this.#saved.list(owner)).sort((a, b) => b.created - a.created);
  }

  async count(owner: string): Promise<number> {
    return (await this.#saved.ids(owner)).length;
  }

  get(key: SessionKey): Promise<SessionInfo | null> {
    return this.#saved.find(key);
  }

  /** Nothing changes without the model. */
  async *watch(key: SessionKey): AsyncGenerator<SessionInfo, void, undefined> {
    const session = await this.#saved.find(key);
    if (session !== null) yield session;
  }

  async rename(key: SessionKey, name: string): Promise<SessionInfo | null> {
    if (await this.#has(key)) await this.#saved.rename(key, name);
    return await this.#saved.find(key);
  }

  async remove(key: SessionKey): Promise<boolean> {
    return (await this.#has(key)) && (await this.#saved.remove(key));
  }

  async exportTo(key: SessionKey, path: string): Promise<boolean> {
    return (await this.#has(key)) && (await this.#saved.exportTo(key, path));
  }

  /** The store is shared: a session in it may be of another model. */
  async #has(key: SessionKey): Promise<boolean> {
    return (await this.#saved.find(key)) !== null;
  }
}
