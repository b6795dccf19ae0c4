/** The files of a store's folder. All of it puts up with files that other processes remove meanwhile. */
import { constants, copyFile, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readDescription } from './snapshot-description.js';
import { readError, writeError } from './store-errors.js';

/** Endings of a store's files, behind their key. */
export const SNAPSHOT = '.ctkvr';
export const DESCRIPTION = '.json';

export interface StoreFile {
  readonly path: string;
  readonly bytes: number;
  /** Milliseconds since 1970: a snapshot's time of modification is set whenever it is opened. */
  readonly usedAt: number;
  /** Changes when another file takes the path. */
  readonly id: string;
}

/** A save that has written nothing for this long has been killed. */
const ABANDONED_AFTER_MS = 3_600_000;

/** Returns null where there is no file. @throws {CtkvrError} CTKVR_FILE_UNREADABLE when that cannot be told. */
export async function fileAt(path: string): Promise<StoreFile | null> {
  try {
    const { size, mtimeMs, ino, dev } = await stat(path);
    return { path, bytes: size, usedAt: mtimeMs, id: `${dev}:${ino}` };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw readError(path, error);
  }
}

/** Returns the names in a folder; nothing where there is none. @throws {CtkvrError} CTKVR_FILE_UNREADABLE when that cannot be told. */
export async function namesOf(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error) => {
    if (error.code === 'ENOENT') return [];
    throw readError(folder, error);
  });
}

/** Returns what is in a folder. @param isWanted by its name: a folder may hold thousands. @throws {CtkvrError} as `namesOf`. */
export async function filesOf(folder: string, isWanted: (name: string) => boolean = () => true): Promise<StoreFile[]> {
  const names = (await namesOf(folder)).filter(isWanted);
  const files = await Promise.all(names.map((name) => fileAt(join(folder, name))));
  return files.filter((file) => file !== null);
}

/** @throws {CtkvrError} CTKVR_OUTPUT_FAILED. */
export async function removeAll(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await rm(path, { force: true }).catch((error) => {
      throw writeError(path, error);
    });
  }
}

/** Removes what killed saves left in a folder: half of a file, or a description whose snapshot was still to come. */
export async function removeAbandoned(folder: string): Promise<void> {
  const all = new Set(await namesOf(folder));
  const isHalf = (name: string) => /\.saving(\.partial-[0-9a-f]{16})?$/.test(name);
  const lacksSnapshot = (name: string) =>
    name.endsWith(DESCRIPTION) && !all.has(name.slice(0, -DESCRIPTION.length) + SNAPSHOT);
  for (const { path, usedAt } of await filesOf(folder, (name) => isHalf(name) || lacksSnapshot(name))) {
    if (Date.now() - usedAt <= ABANDONED_AFTER_MS) continue;
    if (isHalf(path) || (await readDescription(path)) !== null) await removeAll([path]);
  }
}

/** Copies a file to where there is none. @throws {CtkvrError} CTKVR_DISK_FULL; CTKVR_OUTPUT_FAILED, also where there is a file. */
export async function copyNew(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') await rm(to, { force: true });
    throw writeError(to, error);
  }
}
