/** The prompts on disk of a loaded model: its folder, and how its engine writes and reads them. */
import { createHash } from 'node:crypto';
import type { NativeModel, NativeSequence } from '@ctkvr/native';
import type { StepComposer } from '@ctkvr/scheduler';
import { SnapshotStore } from './snapshot-store/snapshot-store.js';
import { StoredPrompts } from './stored-prompts.js';

export interface PromptStoreOptions {
  readonly folder: string;
  /** Bytes that all prompts there may take; the least recently used leave. Default: no limit. */
  readonly maxBytes?: number | undefined;
}

interface StoringModel {
  readonly native: NativeModel;
  readonly composer: StepComposer<NativeSequence>;
  /** A sequence from disk is as long as it was when it was written. */
  readonly contextLength: number;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function promptStore(options: PromptStoreOptions): SnapshotStore {
  const onQuarantine = ({ path }: { readonly path: string }) =>
    warn(`a prompt on disk is damaged; it was moved to ${path}`);
  return new SnapshotStore({ ...options, onQuarantine });
}

export function openPromptStore(
  store: SnapshotStore,
  { native, composer, contextLength }: StoringModel,
): StoredPrompts {
  const { path: _, ...info } = native.info;
  return new StoredPrompts({
    store,
    modelName: createHash('sha256')
      .update(JSON.stringify([info, contextLength]))
      .digest('hex'),
    write: (prompt, path, notes) => composer.runExclusive(() => prompt.native.save(path, notes)),
    restore: (path) => composer.runExclusive(() => native.restoreSequence(path)),
    onFailed: (error) => warn(`a prompt on disk: ${error instanceof Error ? error.message : error}`),
  });
}

function warn(message: string): void {
  process.emitWarning(message, 'CtkvrWarning');
}
