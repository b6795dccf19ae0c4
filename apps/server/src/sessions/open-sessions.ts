/** The document sessions of a loaded model, with their store if they have one. */
import path from 'node:path';
import { type Model, SnapshotStore } from '@ctkvr/model-runner';
import type { Logger } from 'pino';
import { ModelSessions, type ModelSessionsOptions } from './model-sessions.js';

export interface SessionStoreOptions {
  readonly folder: string;
  /** Bytes that it may take; the least recently used sessions leave. Default: no limit. */
  readonly maxBytes?: number | undefined;
}

interface OpenSessionsOptions extends Pick<ModelSessionsOptions, 'reading'> {
  readonly store: SessionStoreOptions | undefined;
  readonly logger: Logger;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION for a store that cannot be. */
export function openSessions(model: Model, { reading, store, logger }: OpenSessionsOptions): ModelSessions {
  return new ModelSessions({
    model,
    reading,
    store: store === undefined ? null : openStore(store, logger),
    modelName: path.basename(model.info.path, '.gguf'),
    onSaveFailed: (error) => logger.warn({ err: error }, 'a session could not be saved'),
  });
}

function openStore(options: SessionStoreOptions, logger: Logger): SnapshotStore {
  return new SnapshotStore({
    ...options,
    onQuarantine: ({ key, path: movedTo, error }) =>
      logger.warn({ session: key, movedTo, err: error }, 'a saved session is damaged'),
  });
}
