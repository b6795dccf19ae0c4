// The end-to-end suite: node's test runner over scripts/end-to-end/*.e2e.mjs, which start the built command line as a user would.
import { join } from 'node:path';
import { filesBelow } from '../lib/digest.mjs';
import { run } from '../lib/exec.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { tapCounts } from './reports.mjs';

const TIMEOUT_MS = 20 * 60_000;

/** @param {string} model path of the default model @returns {Promise<import('./checks.mjs').Finding>} */
export async function endToEnd(model) {
  const suites = filesBelow(join(root, 'scripts/end-to-end'), (path) => path.endsWith('.e2e.mjs'));
  const { code, output } = await run({
    command: process.execPath,
    args: ['--test', '--test-reporter=tap', '--test-concurrency=1', ...suites],
    env: { ...process.env, CTKVR_TEST_MODEL: model },
    log: join(toolsDir, 'logs/check-end-to-end.log'),
    timeoutMs: TIMEOUT_MS,
  });
  return { counts: tapCounts(output, code), output };
}
