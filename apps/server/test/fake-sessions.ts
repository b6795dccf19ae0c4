/** Document sessions without a model, for tests of the routes: everything is in a map, and a test says when a document is read. */

import { readFile, writeFile } from 'node:fs/promises';
import { CtkvrError } from '@ctkvr/core';
import type { DocumentSessions, Passages, SessionInfo, SessionKey } from '../src/index.js';

interface FakeSession {
  readonly owner: string;
  readonly text: string;
  info: SessionInfo;
}

export class FakeSessions implements DocumentSessions {
  readonly all = new Map<string, FakeSession>();
  /** Of the sessions that are made from now on. */
  created = 1;
  readonly #idPrefix: string;
  #numMade = 0;
  #tell = new Set<() => void>();

  /** @param idPrefix ids are unique among the models of a server. */
  constructor(idPrefix = 's') {
    this.#idPrefix = idPrefix;
  }

  /** A step of reading; the last makes it ready. */
  read(id: string, tokensDone: number): void {
    const session = this.all.get(id)!;
    const state = tokensDone === session.text.length ? 'ready' : 'reading';
    session.info = { ...session.info, tokensDone, tokensTotal: session.text.length, state };
    for (const tell of this.#tell) tell();
  }

  fail(id: string): void {
    const session = this.all.get(id)!;
    session.info = {
      ...session.info,
      state: 'failed',
      error: { message: 'too long', code: 'context_length_exceeded' },
    };
    for (const tell of this.#tell) tell();
  }

  async create(owner: string, { name, text }: { name: string; text: string }): Promise<SessionInfo> {
    if (text === '!busy') throw new CtkvrError('CTKVR_OVERLOADED', 'too many documents wait');
    this.#numMade += 1;
    const info = {
      id: `${this.#idPrefix}${this.#numMade}`,
      name,
      state: 'reading',
      tokensDone: 0,
      tokensTotal: 0,
      created: this.created,
      error: null,
    } as const;
    this.all.set(info.id, { owner, text, info });
    return info;
  }

  async list(owner: string): Promise<SessionInfo[]> {
    return [...this.all.values()].filter((session) => session.owner === owner).map(({ info }) => info);
  }

  async count(owner: string): Promise<number> {
    return (await this.list(owner)).length;
  }

  async get(key: SessionKey): Promise<SessionInfo | null> {
    return this.#find(key)?.info ?? null;
  }

  async *watch(key: SessionKey, signal: AbortSignal): AsyncGenerator<SessionInfo, void, undefined> {
    for (;;) {
      const info = this.#find(key)?.info;
      if (info === undefined) return;
      yield info;
      if (info.state !== 'reading') return;
      await new Promise<void>((resolve, reject) => {
        this.#tell.add(resolve);
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    }
  }

  async rename(key: SessionKey, name: string): Promise<SessionInfo | null> {
    const session = this.#find(key);
    if (session === undefined) return null;
    session.info = { ...session.info, name };
    return session.info;
  }

  async remove(key: SessionKey): Promise<boolean> {
    return this.#find(key) !== undefined && this.all.delete(key.id);
  }

  async fork(key: SessionKey): Promise<SessionInfo | null> {
    const session = this.#find(key);
    return session === undefined ? null : await this.create(key.owner, { name: session.info.name, text: session.text });
  }

  async passages(key: SessionKey): Promise<Passages | null> {
    const session = this.#find(key);
    return session === undefined ? null : { passageTokens: 32, passages: session.text.match(/.{1,32}/gs) ?? [] };
  }

  async exportTo(key: SessionKey, path: string): Promise<boolean> {
    const session = this.#find(key);
    if (session === undefined) return false;
    if (session.info.state === 'reading') throw new CtkvrError('CTKVR_BUSY', 'it is still being read');
    await writeFile(path, session.text);
    return true;
  }

  async importFrom(owner: string, { name, path }: { name: string; path: string }): Promise<SessionInfo> {
    const text = await readFile(path, 'utf8');
    if (text === 'rubbish') throw new CtkvrError('CTKVR_BAD_SNAPSHOT', `${path}: no snapshot`);
    return await this.create(owner, { name, text });
  }

  #find({ owner, id }: SessionKey): FakeSession | undefined {
    const session = this.all.get(id);
    return session?.owner === owner ? session : undefined;
  }
}
