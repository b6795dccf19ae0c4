/** Documents of a model that runs in a process of its own: every call goes there, or to what is on disk while there is no process. */
import type { MethodKinds } from '../remote/forward.js';
import type { DocumentSessions, KeptSessions, SessionInfo, SessionKey } from '../sessions/document-sessions.js';

/** The name they are served under. */
export const SESSIONS_SERVICE = 'sessions';

/** What the process serves. */
export interface SessionsService extends DocumentSessions {
  /** Resolves when a session is read and saved, or will not be. */
  settled(key: SessionKey): Promise<void>;
}

export const sessionsServiceMethods: MethodKinds<SessionsService> = {
  create: 'call',
  list: 'call',
  count: 'call',
  get: 'call',
  watch: 'stream',
  rename: 'call',
  remove: 'call',
  fork: 'call',
  passages: 'call',
  exportTo: 'call',
  importFrom: 'call',
  settled: 'call',
};

/** Where the work is done. */
export interface SessionsUse {
  /** With the model loaded. */
  loaded<T>(work: (sessions: DocumentSessions) => Promise<T>, signal: AbortSignal): Promise<T>;
  /** The same for what makes a session: the model stays loaded until that is read and saved. */
  making<T extends SessionInfo | null>(owner: string, work: (sessions: DocumentSessions) => Promise<T>): Promise<T>;
  /** In the process if there is one, on disk otherwise. */
  kept<T>(work: (sessions: KeptSessions) => Promise<T>): Promise<T>;
  keptStream<T>(
    work: (sessions: KeptSessions) => AsyncGenerator<T, void, undefined>,
  ): AsyncGenerator<T, void, undefined>;
}

export function processSessions({ loaded, making, kept, keptStream }: SessionsUse): DocumentSessions {
  return {
    create: (owner, document) => making(owner, (sessions) => sessions.create(owner, document)),
    importFrom: (owner, snapshot) => making(owner, (sessions) => sessions.importFrom(owner, snapshot)),
    fork: (key) => making(key.owner, (sessions) => sessions.fork(key)),
    passages: (key, signal) => loaded((sessions) => sessions.passages(key, signal), signal),
    list: (owner) => kept((sessions) => sessions.list(owner)),
    count: (owner) => kept((sessions) => sessions.count(owner)),
    get: (key) => kept((sessions) => sessions.get(key)),
    watch: (key, signal) => keptStream((sessions) => sessions.watch(key, signal)),
    rename: (key, name) => kept((sessions) => sessions.rename(key, name)),
    remove: (key) => kept((sessions) => sessions.remove(key)),
    exportTo: (key, path) => kept((sessions) => sessions.exportTo(key, path)),
  };
}
