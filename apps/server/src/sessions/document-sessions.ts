/**
 * The interface between the routes and documents that were read once. Plain data goes in and comes out, so that the model can run in its
 * own process. What does not exist is null or false, never an error.
 */

/** A session of one owner. Nobody else's sessions can be told from none. */
export interface SessionKey {
  readonly owner: string;
  readonly id: string;
}

/** reading = also waiting to be read; saved = on disk only, until it is asked. */
export type SessionState = 'reading' | 'ready' | 'failed' | 'saved';

export interface SessionInfo {
  readonly id: string;
  readonly name: string;
  readonly state: SessionState;
  /** Of the document; both 0 until its tokens are counted. */
  readonly tokensDone: number;
  readonly tokensTotal: number;
  /** Seconds since 1970. */
  readonly created: number;
  /** Why it failed, in words for the client. */
  readonly error: { readonly message: string; readonly code: string | null } | null;
}

export interface Passages {
  /** Tokens of each; the last may have fewer. */
  readonly passageTokens: number;
  /** Joined, they are the prompt as far as any question. */
  readonly passages: readonly string[];
}

/** What can be done with sessions while their model is not loaded, too. */
export interface KeptSessions {
  /** Newest first. */
  list(owner: string): Promise<SessionInfo[]>;
  /** How many `list` returns. */
  count(owner: string): Promise<number>;
  get(key: SessionKey): Promise<SessionInfo | null>;
  /** Yields it as it is, then whenever it has changed, until it is no longer being read, or gone. Changes that nobody waited for are left out. */
  watch(key: SessionKey, signal: AbortSignal): AsyncGenerator<SessionInfo, void, undefined>;
  rename(key: SessionKey, name: string): Promise<SessionInfo | null>;
  /** Ends what is being read or answered, and removes it from memory and disk. */
  remove(key: SessionKey): Promise<boolean>;
  /** Writes its snapshot. @throws {CtkvrError} CTKVR_DISK_FULL, CTKVR_OUTPUT_FAILED, CTKVR_BUSY while it is being read. */
  exportTo(key: SessionKey, path: string): Promise<boolean>;
}

export interface DocumentSessions extends KeptSessions {
  /**
   * Returns before the document is read. @throws {CtkvrError} CTKVR_OVERLOADED when too many documents wait to be read; CTKVR_CLOSED.
   */
  create(owner: string, document: { readonly name: string; readonly text: string }): Promise<SessionInfo>;
  /** A second session of the same document, which shares its memory. @throws {CtkvrError} CTKVR_OUT_OF_MEMORY, CTKVR_BAD_SNAPSHOT. */
  fork(key: SessionKey): Promise<SessionInfo | null>;
  /** @throws {CtkvrError} CTKVR_OUT_OF_MEMORY, CTKVR_BAD_SNAPSHOT; why the session failed. */
  passages(key: SessionKey, signal: AbortSignal): Promise<Passages | null>;
  /** Makes a session of a snapshot, which stays the caller's. @throws {CtkvrError} CTKVR_BAD_SNAPSHOT, CTKVR_OUT_OF_MEMORY, CTKVR_CONTEXT_EXCEEDED. */
  importFrom(owner: string, snapshot: { readonly name: string; readonly path: string }): Promise<SessionInfo>;
}
