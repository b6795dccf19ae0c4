// The model files that tests read, fetched (and checked, and cached) by the programs that know where they come from.
import { join } from 'node:path';
import { run } from '../lib/exec.mjs';
import { root } from '../lib/paths.mjs';

/** @type {Map<string, Promise<string>>} */
const fetched = new Map();

/** Path of the default model; an already set CTKVR_TEST_MODEL wins. @returns {Promise<string>} */
export function testModel() {
  return once(
    'test',
    () => process.env.CTKVR_TEST_MODEL ?? pulled('apps/cli/dist/bin.js', ['pull', 'smollm2-135m', '--json']),
  );
}

/** Path of the long-context evaluation model. @returns {Promise<string>} */
export function evaluationModel() {
  return once('evaluation', () => pulled('apps/benchmarks/dist/bin.js', ['pull', 'qwen2.5-coder-0.5b', '--json']));
}

/** @param {string} key @param {() => string | Promise<string>} find */
function once(key, find) {
  const path = fetched.get(key) ?? Promise.resolve(find());
  fetched.set(key, path);
  return path;
}

/** @param {string} program @param {string[]} args @returns {Promise<string>} the `path` of the JSON that the program prints */
async function pulled(program, args) {
  const { code, stdout, output } = await run({ command: process.execPath, args: [join(root, program), ...args] });
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} failed (exit code ${code}):\n${output}`);
  const { path } = JSON.parse(stdout);
  if (typeof path !== 'string') throw new Error(`${program} ${args.join(' ')} printed no path:\n${output}`);
  return path;
}
