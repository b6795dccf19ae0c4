/** Where the command line keeps what it has read, and the options that say so. */
import { join } from 'node:path';
import { cacheFolder, SnapshotStore, type SnapshotStoreOptions } from '@ctkvr/model-runner';
import type { Command } from 'commander';
import { size } from '../parse-options.js';

export interface StoreFlags {
  readonly store: boolean;
  /** Bytes. */
  readonly storeLimit?: number | undefined;
}

const DEFAULT_LIMIT = '20GB';

/** Of every command that reads documents. */
export function addStoreOptions(command: Command): Command {
  return addStoreLimit(
    command.option('--no-store', 'neither look for what was read before, nor keep what is read for the next time'),
  );
}

export function addStoreLimit(command: Command): Command {
  return command.option(
    '--store-limit <size>',
    `the most that what was read may take on disk, as 24GB or 512MiB; the least recently used leave (default: ${DEFAULT_LIMIT})`,
    size,
  );
}

/** Bytes that the store may take. */
export function storeLimitOf({ storeLimit }: Pick<StoreFlags, 'storeLimit'>): number {
  return storeLimit ?? size(DEFAULT_LIMIT);
}

/** Where it is unless told otherwise. */
export function defaultStoreFolder(): string {
  return join(cacheFolder(), 'sessions');
}

/** Where `ctkvr serve` keeps prompts that leave its prefix cache. */
export function promptStoreFolder(): string {
  return join(cacheFolder(), 'prompts');
}

/** The store of this user's documents. It makes no folder before something is saved. */
export function sessionStore(options: Omit<SnapshotStoreOptions, 'folder'> = {}): SnapshotStore {
  return new SnapshotStore({ folder: defaultStoreFolder(), ...options });
}
