/** Documents of a model that runs in a process of its own: every call goes there. */
import type { MethodKinds } from '../remote/forward.js';
import type { DocumentSessions } from '../sessions/document-sessions.js';

/** The name they are served under. */
export const SESSIONS_SERVICE = 'sessions';

export const sessionsServiceMethods: MethodKinds<DocumentSessions> = {
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
};

/** Runs work with the model loaded. */
export interface SessionsUse {
  call<T>(work: (sessions: DocumentSessions) => Promise<T>, signal?: AbortSignal): Promise<T>;
  stream<T>(
    work: (sessions: DocumentSessions) => AsyncGenerator<T, void, undefined>,
    signal: AbortSignal,
  ): AsyncGenerator<T, void, undefined>;
}

export function processSessions({ call, stream }: SessionsUse): DocumentSessions {
  return {
    create: (owner, document) => call((sessions) => sessions.create(owner, document)),
    list: (owner) => call((sessions) => sessions.list(owner)),
    count: (owner) => call((sessions) => sessions.count(owner)),
    get: (key) => call((sessions) => sessions.get(key)),
    watch: (key, signal) => stream((sessions) => sessions.watch(key, signal), signal),
    rename: (key, name) => call((sessions) => sessions.rename(key, name)),
    remove: (key) => call((sessions) => sessions.remove(key)),
    fork: (key) => call((sessions) => sessions.fork(key)),
    passages: (key, signal) => call((sessions) => sessions.passages(key, signal), signal),
    exportTo: (key, path) => call((sessions) => sessions.exportTo(key, path)),
    importFrom: (owner, snapshot) => call((sessions) => sessions.importFrom(owner, snapshot)),
  };
}
