/** The sessions whose documents are in memory, or on their way there. */
import type { SessionInfo, SessionKey } from './document-sessions.js';
import { storedKey } from './saved-sessions.js';
import type { SharedDocument } from './shared-document.js';

export interface LiveSession {
  readonly key: SessionKey;
  name: string;
  /** Seconds since 1970. */
  readonly created: number;
  /** Milliseconds since 1970. */
  usedAt: number;
  readonly document: SharedDocument;
  isSaved: boolean;
}

export class LiveSessions {
  /** By their keys in the store. */
  readonly #sessions = new Map<string, LiveSession>();

  get(key: SessionKey): LiveSession | null {
    return this.#sessions.get(storedKey(key)) ?? null;
  }

  has(session: LiveSession): boolean {
    return this.get(session.key) === session;
  }

  add(session: LiveSession): void {
    this.#sessions.set(storedKey(session.key), session);
  }

  /** Forgets it. Returns whether no other has its document. */
  delete(session: LiveSession): boolean {
    this.#sessions.delete(storedKey(session.key));
    return ![...this.#sessions.values()].some(({ document }) => document === session.document);
  }

  of(owner: string): LiveSession[] {
    return [...this.#sessions.values()].filter(({ key }) => key.owner === owner);
  }

  /** Each with its sessions, the least recently used first. */
  documents(): { readonly document: SharedDocument; readonly sessions: readonly LiveSession[] }[] {
    const byDocument = new Map<SharedDocument, LiveSession[]>();
    // Ascending, so that a document's last session tells when it was used last.
    for (const session of [...this.#sessions.values()].sort((one, other) => one.usedAt - other.usedAt)) {
      const sessions = byDocument.get(session.document) ?? [];
      byDocument.delete(session.document); // to be the last of the map's
      byDocument.set(session.document, [...sessions, session]);
    }
    return [...byDocument].map(([document, sessions]) => ({ document, sessions }));
  }
}

export function toInfo({ key, name, created, document }: LiveSession): SessionInfo {
  return { id: key.id, name, created, ...document.facts };
}
