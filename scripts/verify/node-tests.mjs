// Suites of node's own test runner, for what is used from outside as a user would: scripts/<name>/*.e2e.mjs.
import { join } from 'node:path';
import { filesBelow } from '../lib/digest.mjs';
import { run } from '../lib/exec.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { tapCounts } from './reports.mjs';

const TIMEOUT_MS = 20 * 60_000;

/** @param {string} name of the folder @param {NodeJS.ProcessEnv} [env] @returns {Promise<import('./checks.mjs').Finding>} */
export async function nodeTests(name, env = {}) {
  const suites = filesBelow(join(root, 'scripts', name), (path) => path.endsWith('.e2e.mjs'));
  const { code, output } = await run({
    command: process.execPath,
    args: ['--test', '--test-reporter=tap', '--test-concurrency=1', ...suites],
    env: { ...process.env, ...env },
    log: join(toolsDir, `logs/check-${name}.log`),
    timeoutMs: TIMEOUT_MS,
  });
  return { counts: tapCounts(output, code), output };
}
