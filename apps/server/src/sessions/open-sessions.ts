/** The document sessions of a model, with their store if they have one. */
import path from 'node:path';
import { type Model, SnapshotStore } from '@ctkvr/model-runner';
import type { Warn } from '../warn.js';
import { ModelSessions, type ModelSessionsOptions } from './model-sessions.js';
import { SavedSessions } from './saved-sessions.js';
import { SessionsAtRest } from './sessions-at-rest.js';

export interface SessionStoreOptions {
  readonly folder: string;
  /** Bytes that it may take; the least recently used sessions leave. Default: no limit. */
  readonly maxBytes?: number | undefined;
}

interface OpenSessionsOptions extends Pick<ModelSessionsOptions, 'reading'> {
  readonly store: SessionStoreOptions | undefined;
  /** What the store calls the model. Default: as `storedNameOf` has it. */
  readonly storedName?: string | undefined;
  readonly warn: Warn;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION for a store that cannot be. */
export function openSessions(model: Model, { reading, store, storedName, warn }: OpenSessionsOptions): ModelSessions {
  return new ModelSessions({
    model,
    reading,
    store: store === undefined ? null : openStore(store, warn),
    modelName: storedName ?? storedNameOf(model.info.path),
    onSaveFailed: (error) => warn('a session could not be saved', error),
  });
}

/** Of a model that is not loaded. @throws {CtkvrError} as `openSessions`. */
export function openSessionsAtRest(store: SessionStoreOptions | undefined, storedName: string): SessionsAtRest {
  return new SessionsAtRest(new SavedSessions(store === undefined ? null : new SnapshotStore(store), storedName));
}

/** What a store calls the model of a file. */
export function storedNameOf(modelPath: string): string {
  return path.basename(modelPath, '.gguf');
}

function openStore(options: SessionStoreOptions, warn: Warn): SnapshotStore {
  return new SnapshotStore({
    ...options,
    onQuarantine: ({ path: movedTo, error }) => warn(`a saved session is damaged; it was moved to ${movedTo}`, error),
  });
}
