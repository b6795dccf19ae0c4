// dist/ of every package and app, through turbo (which itself rebuilds only what changed).
import { readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { digest, exists, filesBelow } from '../lib/digest.mjs';
import { runLogged } from '../lib/exec.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { pnpmBinDir } from './packages.mjs';

/** Runs turbo from the workspace. @param {string[]} args */
export function turbo(args) {
  return {
    command: join(root, 'node_modules/.bin/turbo'),
    args: [...args, '--ui=stream', '--no-update-notifier', '--output-logs=errors-only'],
    // turbo starts the packages' scripts through the pnpm that it finds on PATH.
    env: {
      ...process.env,
      PATH: `${pnpmBinDir}${delimiter}${process.env.PATH}`,
      TURBO_TELEMETRY_DISABLED: '1',
      DO_NOT_TRACK: '1',
    },
  };
}

/** Every workspace package: its folder and parsed package.json. */
export function workspacePackages() {
  return ['packages', 'apps'].flatMap((group) =>
    readdirSync(join(root, group))
      .map((name) => join(root, group, name))
      .filter((dir) => exists(join(dir, 'package.json'))),
  );
}

const isSource = (/** @type {string} */ path) =>
  /(\.(ts|tsx|html|css)|(package|tsconfig)\.json)$/.test(path) && !/(\.test\.ts$|\/(test|golden|bench)\/)/.test(path);

/** @type {import('../lib/steps.mjs').Step} */
export const buildTypescript = {
  stamp: join(toolsDir, 'stamps/typescript'),
  digest: () =>
    digest({
      files: [
        ...['tsconfig.base.json', 'tsup.base.ts', 'turbo.json', 'pnpm-lock.yaml'].map((name) => join(root, name)),
        ...workspacePackages().flatMap((dir) => filesBelow(dir, isSource)),
      ],
    }),
  isPresent: () =>
    workspacePackages().every((dir) => ['index.js', 'index.html'].some((entry) => exists(join(dir, 'dist', entry)))),
  run: () => runLogged({ name: 'typescript', title: 'building the TypeScript packages', ...turbo(['run', 'build']) }),
};
