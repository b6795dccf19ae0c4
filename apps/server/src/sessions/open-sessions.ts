/** The document sessions of a loaded model, with their store if they have one. */
import path from 'node:path';
import { type Model, SnapshotStore } from '@ctkvr/model-runner';
import type { Warn } from '../warn.js';
import { ModelSessions, type ModelSessionsOptions } from './model-sessions.js';

export interface SessionStoreOptions {
  readonly folder: string;
  /** Bytes that it may take; the least recently used sessions leave. Default: no limit. */
  readonly maxBytes?: number | undefined;
}

interface OpenSessionsOptions extends Pick<ModelSessionsOptions, 'reading'> {
  readonly store: SessionStoreOptions | undefined;
  readonly warn: Warn;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION for a store that cannot be. */
export function openSessions(model: Model, { reading, store, warn }: OpenSessionsOptions): ModelSessions {
  return new ModelSessions({
    model,
    reading,
    store: store === undefined ? null : openStore(store, warn),
    modelName: path.basename(model.info.path, '.gguf'),
    onSaveFailed: (error) => warn('a session could not be saved', error),
  });
}

function openStore(options: SessionStoreOptions, warn: Warn): SnapshotStore {
  return new SnapshotStore({
    ...options,
    onQuarantine: ({ path: movedTo, error }) => warn(`a saved session is damaged; it was moved to ${movedTo}`, error),
  });
}
