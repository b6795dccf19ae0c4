/**
 * Snapshots in a folder: kept under keys, found again, the least recently used leaving when they are too many bytes, damaged ones moved
 * aside. A snapshot and its description are two files, each replaced at once, so that several processes may share the folder.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, utimes } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CtkvrError, checkOption, checkOptions, type OptionCheck, type OptionChecks, takes } from '@ctkvr/core';
import {
  checkAbout,
  checkName,
  readDescription,
  type SnapshotAbout,
  writeDescription,
} from './snapshot-description.js';
import { isDamage, noSnapshotError, tooLargeError, writeError } from './store-errors.js';
import {
  copyNew,
  DESCRIPTION,
  fileAt,
  filesOf,
  namesOf,
  removeAbandoned,
  removeAll,
  SNAPSHOT,
  type StoreFile,
} from './store-files.js';

export interface SnapshotStoreOptions {
  /** Made when the first snapshot is saved, for its owner alone. */
  readonly folder: string;
  /** Bytes that all snapshots may take, damaged ones included. Default: no limit. */
  readonly maxBytes?: number | undefined;
  /** Told once of each snapshot that is damaged and was moved aside. */
  readonly onQuarantine?: ((damaged: QuarantinedSnapshot) => void) | undefined;
}

export interface StoredSnapshot extends SnapshotAbout {
  readonly key: string;
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly savedAt: number;
  /** When it was saved or opened last, milliseconds since 1970. */
  readonly usedAt: number;
}

export interface QuarantinedSnapshot {
  readonly key: string;
  /** Where it is now. */
  readonly path: string;
  readonly error: CtkvrError;
}

const QUARANTINE = 'quarantine';

const optionChecks: OptionChecks<SnapshotStoreOptions> = {
  folder: takes.text,
  maxBytes: takes.optional(takes.integer(1, Number.MAX_SAFE_INTEGER)),
  onQuarantine: takes.optional(takes.func),
};

const keyCheck: OptionCheck = {
  expected: '1 to 64 of A-Z, a-z, 0-9, _ and -',
  isOptional: false,
  accepts: (key) => typeof key === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(key),
};

export class SnapshotStore {
  readonly folder: string;
  readonly maxBytes: number;
  readonly #onQuarantine: (damaged: QuarantinedSnapshot) => void;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
  constructor(options: SnapshotStoreOptions) {
    checkOptions('SnapshotStore', options, optionChecks);
    this.folder = options.folder;
    this.maxBytes = options.maxBytes ?? Number.POSITIVE_INFINITY;
    this.#onQuarantine = options.onQuarantine ?? (() => {});
  }

  /** What there is, the most recently used first. One whose description is lost has its key for a name, and 0 tokens of model ''. */
  async list(): Promise<readonly StoredSnapshot[]> {
    const described = (await this.#snapshots()).map((file) => this.#describe(file));
    return (await Promise.all(described)).sort((a, b) => b.usedAt - a.usedAt);
  }

  /** Keys of what there is, in no order: quick where `list` reads thousands of files. */
  async keys(): Promise<string[]> {
    return (await namesOf(this.folder)).filter((name) => this.#isSnapshot(name)).map((name) => this.#keyOf(name));
  }

  /** What `list` says of one; null when there is none. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
  async find(key: string): Promise<StoredSnapshot | null> {
    checkKey('find', key);
    const file = await fileAt(this.#snapshot(key));
    return file === null ? null : await this.#describe(file);
  }

  /**
   * Keeps what `write` puts into a file, in place of what the key had; then removes the least recently used others until all are within
   * `maxBytes`. When it rejects, nothing that was kept is lost.
   * @throws {CtkvrError} CTKVR_DISK_FULL, also for a snapshot that alone has more than `maxBytes`; CTKVR_OUTPUT_FAILED, CTKVR_INVALID_OPTION,
   * and what `write` rejects with.
   */
  async save(key: string, about: SnapshotAbout, write: (path: string) => Promise<{ bytes: number }>): Promise<void> {
    checkKey('save', key);
    checkAbout('save', about);
    const path = this.#snapshot(key);
    const temporary = `${path}.${randomBytes(8).toString('hex')}.saving`;
    try {
      await mkdir(this.folder, { recursive: true, mode: 0o700 });
      await removeAbandoned(this.folder);
      const { bytes } = await write(temporary);
      if (bytes > this.maxBytes) throw tooLargeError({ key, bytes, maxBytes: this.maxBytes });
      // The description first: what it says of a key is right of the old snapshot too.
      await writeDescription(this.#description(key), { ...about, savedAt: Date.now() });
      await rename(temporary, path);
    } catch (error) {
      throw writeError(path, error);
    } finally {
      await rm(temporary, { force: true }).catch(() => {}); // what went wrong before is to be told
    }
    await this.#trim(path);
  }

  /**
   * Returns what `read` makes of a snapshot's file, null when there is none. A damaged one is moved to the folder `quarantine`, told of, and
   * null too.
   * @throws {CtkvrError} what else `read` rejects with, CTKVR_BAD_SNAPSHOT of another model or setting included.
   */
  async open<T>(key: string, read: (path: string) => Promise<T>): Promise<T | null> {
    checkKey('open', key);
    const path = this.#snapshot(key);
    const found = await fileAt(path);
    if (found === null) return null;
    // Before it is read, so that no other process removes it as the least recently used.
    const now = new Date();
    await utimes(path, now, now).catch(() => {}); // a folder that may only be read
    try {
      return await read(path);
    } catch (error) {
      if (CtkvrError.isInstance(error) && error.code === 'CTKVR_FILE_NOT_FOUND' && (await fileAt(path)) === null) {
        return null; // another process has removed it
      }
      if (!isDamage(error)) throw error;
      await this.#quarantine(key, found, error);
      return null;
    }
  }

  /** @throws {CtkvrError} CTKVR_FILE_NOT_FOUND, CTKVR_INVALID_OPTION, CTKVR_DISK_FULL, CTKVR_OUTPUT_FAILED. */
  async rename(key: string, name: string): Promise<void> {
    checkKey('rename', key);
    checkName('rename', name);
    const { modelName, numTokens, savedAt, notes } = await this.#known(key);
    const path = this.#description(key);
    try {
      await writeDescription(path, { name, modelName, numTokens, savedAt, notes });
    } catch (error) {
      throw writeError(path, error);
    }
  }

  /** Returns whether there was one. @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_OUTPUT_FAILED. */
  async remove(key: string): Promise<boolean> {
    checkKey('remove', key);
    const existed = (await fileAt(this.#snapshot(key))) !== null;
    await removeAll([this.#snapshot(key), this.#description(key)]);
    return existed;
  }

  /** Copies a snapshot to a new file. @throws {CtkvrError} CTKVR_FILE_NOT_FOUND, CTKVR_DISK_FULL; CTKVR_OUTPUT_FAILED, also when there is a file. */
  async exportTo(key: string, path: string): Promise<void> {
    checkKey('exportTo', key);
    checkOption('exportTo', 'path', path, takes.text);
    await this.#known(key);
    await copyNew(this.#snapshot(key), path);
  }

  /**
   * Keeps a copy of a file that `exportTo` made, as `save` does. It is checked when it is opened.
   * @throws {CtkvrError} CTKVR_FILE_NOT_FOUND when there is no such file, and as `save`.
   */
  async importFrom(path: string, { key, ...about }: SnapshotAbout & { readonly key: string }): Promise<void> {
    checkOption('importFrom', 'path', path, takes.text);
    const file = await fileAt(path);
    if (file === null) throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `there is no file ${path}`, { fields: { path } });
    await this.save(key, about, async (temporary) => {
      await copyNew(path, temporary);
      return { bytes: file.bytes };
    });
  }

  #snapshot(key: string): string {
    return join(this.folder, key + SNAPSHOT);
  }

  #description(key: string): string {
    return join(this.folder, key + DESCRIPTION);
  }

  #keyOf(path: string): string {
    return basename(path, SNAPSHOT);
  }

  #isSnapshot(name: string): boolean {
    return name.endsWith(SNAPSHOT) && keyCheck.accepts(this.#keyOf(name));
  }

  async #snapshots(): Promise<StoreFile[]> {
    return await filesOf(this.folder, (name) => this.#isSnapshot(name));
  }

  async #describe({ path, bytes, usedAt }: StoreFile): Promise<StoredSnapshot> {
    const key = this.#keyOf(path);
    const lost = { name: key, modelName: '', numTokens: 0, savedAt: usedAt };
    return { key, bytes, usedAt, ...((await readDescription(this.#description(key))) ?? lost) };
  }

  /** @throws {CtkvrError} CTKVR_FILE_NOT_FOUND when there is none. */
  async #known(key: string): Promise<StoredSnapshot> {
    const found = await this.find(key);
    if (found === null) throw noSnapshotError(key);
    return found;
  }

  /** Removes damaged snapshots, then the least recently used ones but for `kept`, until what is left is within the limit. */
  async #trim(kept: string): Promise<void> {
    if (this.maxBytes === Number.POSITIVE_INFINITY) return;
    const oldestFirst = (files: StoreFile[]) => files.sort((a, b) => a.usedAt - b.usedAt);
    const damaged = oldestFirst(await filesOf(join(this.folder, QUARANTINE)));
    const snapshots = oldestFirst(await this.#snapshots());
    let left = [...damaged, ...snapshots].reduce((sum, { bytes }) => sum + bytes, 0);
    const removable = [
      ...damaged.map(({ path, bytes }) => ({ bytes, paths: [path] })),
      ...snapshots
        .filter(({ path }) => path !== kept)
        .map(({ path, bytes }) => ({ bytes, paths: [path, this.#description(this.#keyOf(path))] })),
    ];
    for (const { bytes, paths } of removable) {
      if (left <= this.maxBytes) return;
      await removeAll(paths);
      left -= bytes;
    }
  }

  async #quarantine(key: string, found: StoreFile, error: CtkvrError): Promise<void> {
    // Another process may have moved it meanwhile, and saved anew.
    const there = await fileAt(found.path);
    if (there?.id !== found.id) return;
    const folder = join(this.folder, QUARANTINE);
    const path = join(folder, `${key}.${randomBytes(4).toString('hex')}.damaged`);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await rename(found.path, path);
      await rm(this.#description(key), { force: true });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw writeError(path, cause);
    }
    this.#onQuarantine({ key, path, error });
  }
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION: a key is part of a path. */
function checkKey(op: string, key: string): void {
  checkOption(op, 'key', key, keyCheck);
}
