// One number for the content of files: the key of "this work is done already".
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from './paths.mjs';

/** Folders that hold results, never sources. */
const ignoredDirs = new Set(['node_modules', 'dist', 'target', '.turbo', '.git', '.tools', '.cache', 'coverage']);

/**
 * Returns a hex digest over names and contents. A file that does not exist counts as absent (and differs from an empty one).
 * @param {{ files?: string[], values?: string[] }} input absolute paths of files, and further strings that decide
 */
export function digest({ files = [], values = [] }) {
  const hash = createHash('sha256');
  for (const file of [...files].sort()) {
    hash.update(`\0${relative(root, file)}\0`);
    try {
      hash.update(readFileSync(file, 'latin1'), 'latin1');
    } catch {
      hash.update('\0absent');
    }
  }
  for (const value of values) hash.update(`\0${value}\0`);
  return hash.digest('hex');
}

/**
 * Returns every file below `dir` (absolute paths) that `accept` takes; build results are not entered.
 * @param {string} dir
 * @param {(path: string) => boolean} [accept] gets the path from this repository's root on, with a slash in front: where the checkout lies
 * must decide nothing
 * @returns {string[]}
 */
export function filesBelow(dir, accept = () => true) {
  /** @type {string[]} */
  const found = [];
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) {
      if (!ignoredDirs.has(entry.name)) found.push(...filesBelow(path, accept));
    } else if (accept(`/${relative(root, path)}`)) found.push(path);
  }
  return found;
}

/** @param {string} path */
export function exists(path) {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}
