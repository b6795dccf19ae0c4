// Prepares the checkout. Every step is skipped when its inputs have not changed.
import { join } from 'node:path';
import { withLock } from '../lib/lock.mjs';
import { toolsDir } from '../lib/paths.mjs';
import { ensure, isDone } from '../lib/steps.mjs';
import { buildNative } from './native-binary.mjs';
import { provideNativeTools } from './native-tools.mjs';
import { checkNativePrograms, checkNode } from './needed-programs.mjs';
import { installPackages, installPnpm } from './packages.mjs';
import { buildTypescript } from './typescript.mjs';

/** packages: pnpm and node_modules, and what cargo needs; build: also the native binary and every dist/. */
export const goals = {
  packages: [installPnpm, installPackages, provideNativeTools],
  build: [installPnpm, installPackages, provideNativeTools, buildNative, buildTypescript],
};

/** @param {keyof typeof goals} goal */
export async function setup(goal) {
  const steps = goals[goal];
  if (steps.every(isDone)) return;
  checkNode();
  // Before anything long starts: what only the user can install.
  if (steps.includes(buildNative) && !isDone(buildNative)) await checkNativePrograms();
  await withLock(join(toolsDir, 'lock'), async () => {
    for (const step of steps) await ensure(step);
  });
}
