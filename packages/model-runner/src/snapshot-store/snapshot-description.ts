/** What a store knows of a snapshot beside its bytes: a small JSON file. */
import { randomBytes } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { checkOption, checkOptions, type OptionCheck, type OptionChecks, takes } from '@ctkvr/core';

/** What its owner says of a snapshot. */
export interface SnapshotAbout {
  /** What people call it: 1 to 200 characters, no control characters. Never a path. */
  readonly name: string;
  /** The model that it is of. */
  readonly modelName: string;
  /** Tokens in it. */
  readonly numTokens: number;
  /** What its owner finds it by, if that is more than its key. */
  readonly notes?: string | undefined;
}

export interface SnapshotDescription extends SnapshotAbout {
  /** Milliseconds since 1970. */
  readonly savedAt: number;
}

/** Raised whenever a field changes its meaning. */
const version = 1;
const MAX_NAME = 200;

const nameCheck: OptionCheck = {
  expected: `a text of 1 to ${MAX_NAME} characters, none a control character`,
  isOptional: false,
  accepts: isName,
};

const aboutChecks: OptionChecks<SnapshotAbout> = {
  name: nameCheck,
  modelName: takes.text,
  numTokens: takes.integer(0, 0x7fff_ffff),
  notes: takes.optional(takes.text),
};

/** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkAbout(op: string, about: SnapshotAbout): void {
  checkOptions(op, about, aboutChecks);
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkName(op: string, name: string): void {
  checkOption(op, 'name', name, nameCheck);
}

/** Replaces the description at `path` at once. @throws what the file system throws. */
export async function writeDescription(path: string, description: SnapshotDescription): Promise<void> {
  const temporary = `${path}.${randomBytes(8).toString('hex')}.saving`;
  try {
    await writeFile(temporary, JSON.stringify({ version, ...description }), { mode: 0o600, flush: true });
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true }).catch(() => {}); // what went wrong before is to be told
  }
}

/** Returns null for a file that is missing, or that `writeDescription` of this version did not write. */
export async function readDescription(path: string): Promise<SnapshotDescription | null> {
  try {
    const value = JSON.parse(await readFile(path, 'utf8')) as Partial<SnapshotDescription & { version: number }> | null;
    if (value?.version !== version) return null;
    const { name, modelName, numTokens, savedAt, notes } = value;
    if (!isName(name) || typeof modelName !== 'string') return null;
    if (typeof numTokens !== 'number' || typeof savedAt !== 'number') return null;
    if (notes !== undefined && typeof notes !== 'string') return null;
    return { name, modelName, numTokens, savedAt, ...(notes === undefined ? {} : { notes }) };
  } catch {
    return null;
  }
}

function isName(name: unknown): name is string {
  return typeof name === 'string' && name.trim() !== '' && name.length <= MAX_NAME && !/\p{Cc}/u.test(name);
}
