/**
 * Documents of a loaded model. They are read one after the other, saved when there is a store, and restored when somebody asks. Those in memory
 * that nobody uses make way, the least recently used first, as long as they are saved.
 */
import { randomBytes } from 'node:crypto';
import { CtkvrError } from '@ctkvr/core';
import type { Model, ReadDocument, ReadDocumentOptions, SnapshotStore } from '@ctkvr/model-runner';
import { untilAborted } from '../until-aborted.js';
import type { DocumentSessions, Passages, SessionInfo, SessionKey } from './document-sessions.js';
import { type LiveSession, LiveSessions, toInfo } from './live-sessions.js';
import { SavedSessions } from './saved-sessions.js';
import { SharedDocument } from './shared-document.js';

export interface ModelSessionsOptions {
  readonly model: Model;
  /** How documents are read. */
  readonly reading?: Pick<ReadDocumentOptions, 'kvFormat' | 'selector'> | undefined;
  /** Default null: what is closed is lost. */
  readonly store?: SnapshotStore | null;
  /** Of which sessions in the store are shown. */
  readonly modelName: string;
  /** Told when a session could not be saved; it stays in memory. */
  readonly onSaveFailed?: (error: unknown) => void;
}

/** A document that stays in memory until it is released. */
export interface DocumentUse {
  readonly document: ReadDocument;
  readonly release: () => void;
}

/** Documents that wait to be read, and their texts with them. */
const MAX_READING = 16;

export class ModelSessions implements DocumentSessions {
  readonly #model: Model;
  readonly #reading: ModelSessionsOptions['reading'];
  readonly #saved: SavedSessions;
  readonly #onSaveFailed: (error: unknown) => void;
  readonly #live = new LiveSessions();
  /** Settles when the last of the documents that wait has been read. */
  #lastReading: Promise<unknown> = Promise.resolve();
  #numReading = 0;
  readonly #saves = new Set<Promise<void>>();
  /** One after the other: a thousand forks at once would take every thread that reads and writes files. */
  #lastSave: Promise<void> = Promise.resolve();
  #closing: Promise<void> | null = null;

  constructor({ model, reading = {}, store = null, modelName, onSaveFailed = () => {} }: ModelSessionsOptions) {
    this.#model = model;
    this.#reading = reading;
    this.#saved = new SavedSessions(store, modelName);
    this.#onSaveFailed = onSaveFailed;
  }

  async create(owner: string, { name, text }: { readonly name: string; readonly text: string }): Promise<SessionInfo> {
    this.#checkOpen();
    if (this.#numReading >= MAX_READING) {
      throw new CtkvrError('CTKVR_OVERLOADED', `${MAX_READING} documents wait to be read: that is all it takes.`);
    }
    const document = new SharedDocument('reading', (signal, onProgress) =>
      this.#inTurn(() => this.withRoom(() => this.#model.readDocument(text, { ...this.#reading, signal, onProgress }))),
    );
    return toInfo(this.#add(newKey(owner), { name, document }));
  }

  async list(owner: string): Promise<SessionInfo[]> {
    const live = this.#live.of(owner);
    const infos = live.map(toInfo);
    const ids = idsOf(live);
    const saved = (await this.#saved.list(owner)).filter(({ id }) => !ids.has(id));
    return [...infos, ...saved].sort((a, b) => b.created - a.created);
  }

  async count(owner: string): Promise<number> {
    const ids = idsOf(this.#live.of(owner));
    for (const id of await this.#saved.ids(owner)) ids.add(id);
    return ids.size;
  }

  async get(key: SessionKey): Promise<SessionInfo | null> {
    const session = this.#live.get(key);
    return session === null ? await this.#saved.find(key) : toInfo(session);
  }

  async *watch(key: SessionKey, signal: AbortSignal): AsyncGenerator<SessionInfo, void, undefined> {
    for (;;) {
      const change = this.#live.get(key)?.document.change;
      const session = await this.get(key);
      if (session === null) return;
      yield session;
      if (session.state !== 'reading' || change === undefined) return;
      await untilAborted(change, signal);
    }
  }

  async rename(key: SessionKey, name: string): Promise<SessionInfo | null> {
    const session = this.#live.get(key);
    if (session !== null) session.name = name;
    // One that is being saved is given its new name when it is.
    if (session?.isSaved ?? true) await this.#saved.rename(key, name);
    return await this.get(key);
  }

  async remove(key: SessionKey): Promise<boolean> {
    const session = this.#live.get(key);
    if (session !== null) await this.#forget(session);
    const wasSaved = await this.#saved.remove(key);
    return session !== null || wasSaved;
  }

  async fork(key: SessionKey): Promise<SessionInfo | null> {
    const session = await this.#find(key);
    if (session === null) return null;
    const { name, document } = session;
    return toInfo(this.#add(newKey(key.owner), { name, document }));
  }

  async passages(key: SessionKey, signal: AbortSignal): Promise<Passages | null> {
    const use = await this.use(key, signal);
    if (use === null) return null;
    try {
      return { passageTokens: this.#model.passageSize, passages: use.document.passages() };
    } finally {
      use.release();
    }
  }

  async exportTo(key: SessionKey, path: string): Promise<boolean> {
    const session = this.#live.get(key);
    if (session === null || session.isSaved) return await this.#saved.exportTo(key, path);
    if (session.document.state === 'reading') throw new CtkvrError('CTKVR_BUSY', 'The session is still being read.');
    const release = session.document.hold();
    try {
      await (await session.document.opened).save(path);
      return true;
    } finally {
      release();
    }
  }

  async importFrom(
    owner: string,
    { name, path }: { readonly name: string; readonly path: string },
  ): Promise<SessionInfo> {
    this.#checkOpen();
    const restore = (signal: AbortSignal) => this.withRoom(() => this.#model.openDocument(path, { signal }));
    const document = new SharedDocument('saved', restore);
    await document.opened;
    return toInfo(this.#add(newKey(owner), { name, document }));
  }

  /** Resolves when a session is read and saved, or will not be. */
  async settled(key: SessionKey): Promise<void> {
    await this.#live.get(key)?.document.opened.catch(() => {}); // its state tells
    await Promise.allSettled(this.#saves);
  }

  /** Returns its document once that is in memory; null when there is no such session. @throws {CtkvrError} why it is not to be had. */
  async use(key: SessionKey, signal: AbortSignal): Promise<DocumentUse | null> {
    const session = await this.#find(key);
    if (session === null) return null;
    const release = session.document.hold();
    try {
      const document = await untilAborted(session.document.opened, signal);
      session.usedAt = Date.now();
      return { document, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Does `work`, if need be in the memory of documents that nobody uses. @throws {CtkvrError} CTKVR_OUT_OF_MEMORY when there are none left. */
  async withRoom<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const isShort = CtkvrError.isInstance(error) && error.code === 'CTKVR_OUT_OF_MEMORY';
        if (!isShort || !(await this.makeRoom())) throw error;
      }
    }
  }

  /** Closes the document that nobody has used for longest, of those that can be restored. Returns whether to try again. */
  async makeRoom(): Promise<boolean> {
    for (const { document, sessions } of this.#live.documents()) {
      const isIdle = () => document.state === 'ready' && !document.isUsed && sessions.every(({ isSaved }) => isSaved);
      if (!isIdle()) continue;
      // The store may have removed it since.
      const found = await Promise.all(sessions.map(({ key }) => this.#saved.find(key)));
      if (found.includes(null) || !isIdle()) continue;
      for (const session of sessions) this.#live.delete(session);
      await document.close();
      return true;
    }
    if (this.#saves.size === 0) return false;
    await Promise.race(this.#saves); // what is saved may leave
    return true;
  }

  /** Saves what is being saved, ends the rest, frees the memory. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await Promise.all(this.#saves);
    } finally {
      await Promise.all(this.#live.documents().map(({ document }) => document.close()));
    }
  }

  /** The session, on its way into memory if it is not there. */
  async #find(key: SessionKey): Promise<LiveSession | null> {
    const live = this.#live.get(key);
    if (live !== null) return live;
    const saved = await this.#saved.find(key);
    if (saved === null) return null;
    const begun = this.#live.get(key); // by another request, meanwhile
    if (begun !== null) return begun;
    this.#checkOpen();
    const restore = (signal: AbortSignal) =>
      this.withRoom(() => this.#saved.open(key, (path) => this.#model.openDocument(path, { signal })));
    const document = new SharedDocument('saved', restore, saved.tokensTotal);
    const session = this.#add(key, { name: saved.name, created: saved.created, isSaved: true, document });
    document.opened.catch(() => this.#live.delete(session)); // to be tried again, if it is still on disk
    return session;
  }

  #add(
    key: SessionKey,
    given: Pick<LiveSession, 'name' | 'document'> & Partial<Pick<LiveSession, 'created' | 'isSaved'>>,
  ): LiveSession {
    this.#checkOpen();
    const now = Date.now();
    const session: LiveSession = { key, created: Math.floor(now / 1000), usedAt: now, isSaved: false, ...given };
    this.#live.add(session);
    if (!session.isSaved) {
      session.document.opened.then(
        (document) => this.#save(session, document),
        () => {}, // its state tells
      );
    }
    return session;
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw new CtkvrError('CTKVR_CLOSED', 'The sessions are closed.');
  }

  #save(session: LiveSession, document: ReadDocument): void {
    const release = session.document.hold();
    const save = this.#lastSave
      .then(() => this.#saveNow(session, document))
      .catch(this.#onSaveFailed)
      .finally(() => {
        release();
        this.#saves.delete(save);
      });
    this.#lastSave = save.catch(() => {}); // the next one goes on whatever came of it
    this.#saves.add(save);
  }

  async #saveNow(session: LiveSession, document: ReadDocument): Promise<void> {
    if (!this.#live.has(session)) return; // it was removed while others were saved
    const { key, name } = session;
    if (!(await this.#saved.save(key, name, document))) return;
    session.isSaved = true;
    if (this.#live.get(key) !== session)
      await this.#saved.remove(key); // it was removed meanwhile
    else if (session.name !== name) await this.#saved.rename(key, session.name);
  }

  async #forget(session: LiveSession): Promise<void> {
    if (this.#live.delete(session)) await session.document.close();
  }

  /** Reads one document after the other: together each would take as long as all. */
  async #inTurn<T>(read: () => Promise<T>): Promise<T> {
    this.#numReading += 1;
    const turn = this.#lastReading.then(read);
    this.#lastReading = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      this.#numReading -= 1;
    }
  }
}

function idsOf(sessions: readonly LiveSession[]): Set<string> {
  return new Set(sessions.map(({ key }) => key.id));
}

function newKey(owner: string): SessionKey {
  return { owner, id: `session-${randomBytes(12).toString('hex')}` };
}
