// Python wheels of pinned versions and hashes, into a folder of their own: no root, nothing built.
import { rmSync } from 'node:fs';
import { runLogged } from './exec.mjs';

/**
 * @typedef {object} PinnedWheels
 * @property {string} name of the log
 * @property {string} title what is told while it runs
 * @property {string} python
 * @property {string} folder what was there is removed
 * @property {string} requirements pip's file, with hashes
 * @property {string} [remedy] what helps where it fails
 */

/** @param {PinnedWheels} wheels */
export function installPinned({ python, folder, requirements, ...told }) {
  rmSync(folder, { recursive: true, force: true });
  const pinned = ['--no-deps', '--only-binary', ':all:', '--require-hashes', '-r', requirements];
  return runLogged({ ...told, command: python, args: ['-m', 'pip', 'install', '--target', folder, ...pinned] });
}
