// pnpm at the version that package.json pins, and with it the packages of the lockfile.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { digest, exists, filesBelow } from '../lib/digest.mjs';
import { runLogged } from '../lib/exec.mjs';
import { root, toolsDir } from '../lib/paths.mjs';

const pnpmDir = join(toolsDir, 'pnpm');
/** Holds the command `pnpm`. */
export const pnpmBinDir = join(pnpmDir, 'bin');
const pnpmBin = join(pnpmDir, 'lib/node_modules/pnpm/bin/pnpm.cjs');

/** The version in package.json's packageManager field. */
export function pinnedPnpm() {
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return /** @type {string} */ (packageManager.replace('pnpm@', ''));
}

/** Command and arguments that run the pinned pnpm. @param {string[]} args */
export function pnpm(args) {
  return { command: process.execPath, args: [pnpmBin, ...args] };
}

/** @type {import('../lib/steps.mjs').Step} */
export const installPnpm = {
  stamp: join(toolsDir, 'stamps/pnpm'),
  digest: pinnedPnpm,
  isPresent: () => exists(pnpmBin),
  run: () =>
    runLogged({
      name: 'pnpm',
      title: `installing pnpm ${pinnedPnpm()} into .tools`,
      command: 'npm',
      args: ['install', '--global', '--prefix', pnpmDir, '--no-audit', '--no-fund', `pnpm@${pinnedPnpm()}`],
      remedy: 'npm must reach its registry (npm ping); behind a proxy set npm\'s "https-proxy" and "cafile"',
    }),
};

/** @type {import('../lib/steps.mjs').Step} */
export const installPackages = {
  // Inside node_modules: whoever deletes that folder asks for a new installation.
  stamp: join(root, 'node_modules/.ctkvr-installed'),
  digest: () =>
    digest({
      files: [
        ...['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json', '.npmrc'].map((name) => join(root, name)),
        join(root, 'examples/package.json'),
        ...['packages', 'apps'].flatMap((dir) => filesBelow(join(root, dir), (path) => path.endsWith('package.json'))),
      ],
      values: [process.platform, process.arch],
    }),
  isPresent: () => exists(join(root, 'node_modules/.modules.yaml')),
  run: () =>
    runLogged({
      name: 'packages',
      title: 'installing the packages of pnpm-lock.yaml',
      ...pnpm(['install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only']),
      // pnpm asks before it replaces node_modules, unless it runs in CI; nobody is there to answer.
      env: { ...process.env, CI: 'true' },
    }),
};
