/** Sessions on disk: a snapshot store whose keys say whose a session is. Without a store nothing is saved and nothing found. */
import { createHash } from 'node:crypto';
import { CtkvrError } from '@ctkvr/core';
import type { ReadDocument, SnapshotStore, StoredSnapshot } from '@ctkvr/model-runner';
import type { SessionInfo, SessionKey } from './document-sessions.js';

export class SavedSessions {
  readonly #store: SnapshotStore | null;
  /** Sessions of other models are not shown: they cannot be restored. */
  readonly #modelName: string;
  /** By key, as far as `ids` has met them. */
  readonly #modelNames = new Map<string, string>();

  constructor(store: SnapshotStore | null, modelName: string) {
    this.#store = store;
    this.#modelName = modelName;
  }

  /** The most recently used first. */
  async list(owner: string): Promise<SessionInfo[]> {
    const prefix = storedKey({ owner, id: '' });
    const all = (await this.#store?.list()) ?? [];
    return all
      .filter(({ key, modelName }) => key.startsWith(prefix) && modelName === this.#modelName)
      .map((snapshot) => toInfo(snapshot, snapshot.key.slice(prefix.length)));
  }

  /** Ids of what `list` returns, in no order. Each description is read once, as the model of a session stays the same. */
  async ids(owner: string): Promise<string[]> {
    if (this.#store === null) return [];
    const prefix = storedKey({ owner, id: '' });
    const keys = new Set((await this.#store.keys()).filter((key) => key.startsWith(prefix)));
    for (const key of this.#modelNames.keys())
      if (key.startsWith(prefix) && !keys.has(key)) this.#modelNames.delete(key);
    for (const key of keys) {
      if (this.#modelNames.has(key)) continue;
      const snapshot = await this.#store.find(key);
      if (snapshot !== null) this.#modelNames.set(key, snapshot.modelName);
    }
    return [...keys]
      .filter((key) => this.#modelNames.get(key) === this.#modelName)
      .map((key) => key.slice(prefix.length));
  }

  async find(key: SessionKey): Promise<SessionInfo | null> {
    if (!canBeStored(key)) return null;
    const snapshot = (await this.#store?.find(storedKey(key))) ?? null;
    return snapshot === null || snapshot.modelName !== this.#modelName ? null : toInfo(snapshot, key.id);
  }

  /** Returns what `read` makes of its file. @throws {CtkvrError} CTKVR_FILE_NOT_FOUND when it is gone or damaged, and what `read` rejects with. */
  async open(key: SessionKey, read: (path: string) => Promise<ReadDocument>): Promise<ReadDocument> {
    const opened = await this.#store?.open(storedKey(key), read);
    if (!opened) throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `the session ${key.id} was removed, or is damaged`);
    return opened;
  }

  /** Returns whether there is a store. @throws {CtkvrError} as `SnapshotStore.save`. */
  async save(key: SessionKey, name: string, document: ReadDocument): Promise<boolean> {
    if (this.#store === null) return false;
    const about = { name, modelName: this.#modelName, numTokens: document.numTokens };
    await this.#store.save(storedKey(key), about, (path) => document.save(path));
    return true;
  }

  /** Returns whether there was one. */
  rename(key: SessionKey, name: string): Promise<boolean> {
    return this.#change(key, (store) => store.rename(storedKey(key), name));
  }

  /** Returns whether there was one. */
  exportTo(key: SessionKey, path: string): Promise<boolean> {
    return this.#change(key, (store) => store.exportTo(storedKey(key), path));
  }

  /** Returns whether there was one. */
  async remove(key: SessionKey): Promise<boolean> {
    return canBeStored(key) && ((await this.#store?.remove(storedKey(key))) ?? false);
  }

  async #change(key: SessionKey, work: (store: SnapshotStore) => Promise<void>): Promise<boolean> {
    if (this.#store === null || !canBeStored(key)) return false;
    try {
      await work(this.#store);
      return true;
    } catch (error) {
      if (CtkvrError.isInstance(error) && error.code === 'CTKVR_FILE_NOT_FOUND') return false;
      throw error;
    }
  }
}

/** One for each owner and id; an owner may be any text. */
export function storedKey({ owner, id }: SessionKey): string {
  return `${createHash('sha256').update(owner).digest('hex').slice(0, 16)}_${id}`;
}

/** Ids come from clients; of most texts there can be no session. */
function canBeStored({ id }: SessionKey): boolean {
  return /^[\w-]{1,40}$/.test(id);
}

function toInfo({ name, numTokens, savedAt }: StoredSnapshot, id: string): SessionInfo {
  const tokens = { tokensDone: numTokens, tokensTotal: numTokens };
  return { id, name, state: 'saved', ...tokens, created: Math.floor(savedAt / 1000), error: null };
}
