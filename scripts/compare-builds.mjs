// `node scripts/compare-builds.mjs OLD NEW MODEL.gguf TEXT CONTEXT [ROUNDS]`: milliseconds a decoded token of two built checkouts, taking turns of a few
// tokens in one run, so that what else the machine does meets both alike. Prints medians, and the median and quartiles of the turns' ratios.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const TOKENS_A_TURN = 8;
const METHODS = ['full', 'ctkvr'];
const [oldDir = '', newDir = '', modelPath = '', textPath = '', context = '', rounds = '30'] = process.argv.slice(2);
const numTokens = Number(context);
if (!(numTokens > 0 && Number(rounds) > 0)) {
  process.stderr.write('usage: node scripts/compare-builds.mjs OLD NEW MODEL.gguf TEXT CONTEXT [ROUNDS]\n');
  process.exit(64);
}

/** One checkout's engine, in a process of its own as `bench` has it. @param {string} dir */
function contender(dir) {
  const entry = join(dir, 'apps/benchmarks/dist/contender-process.js');
  const child = fork(entry, ['ctkvr'], { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  return {
    /** @param {string} method @param {unknown[]} args @returns {Promise<any>} */
    async call(method, ...args) {
      child.send({ method, args });
      const [answer] = await once(child, 'message');
      if (answer.error) throw new Error(`${dir}: ${answer.error.message}`);
      return answer.value;
    },
    end: () => child.disconnect(),
  };
}

/** @param {number[]} values @param {number} share */
const quantile = (values, share) =>
  /** @type {number} */ ([...values].sort((a, b) => a - b)[Math.floor(share * (values.length - 1))]);

const builds = { old: contender(oldDir), new: contender(newDir) };
const text = readFileSync(textPath, 'utf8');
/** @type {Int32Array | undefined} */
let prompt;
for (const build of Object.values(builds)) {
  await build.call('open', { modelPath, contextLength: numTokens + 64 });
  prompt ??= (await build.call('tokenize', text.slice(0, 8 * numTokens))).slice(0, numTokens);
  if (prompt?.length !== numTokens) throw new Error(`${textPath} has ${prompt?.length} tokens, ${numTokens} are asked`);
  // Builds before December 2026 call the method a selector.
  await build.call('configure', { method: 'ctkvr', selector: 'ctkvr' });
  await build.call('prefill', prompt);
}

/** @type {Record<string, { old: number[], new: number[] }>} */
const ms = Object.fromEntries(METHODS.map((method) => [method, { old: [], new: [] }]));
for (let round = 0; round < Number(rounds); round++) {
  /** @type {('old' | 'new')[]} */
  const order = round % 2 ? ['old', 'new'] : ['new', 'old'];
  for (const method of METHODS) {
    for (const name of order) {
      await builds[name].call('configure', { method, selector: method });
      const { msPerToken } = await builds[name].call('decode', TOKENS_A_TURN);
      ms[method]?.[name].push(quantile(msPerToken, 0.5));
    }
  }
}
for (const [method, taken] of Object.entries(ms)) {
  const ratios = taken.new.map((value, i) => value / /** @type {number} */ (taken.old[i]));
  const [low, middle, high] = [0.25, 0.5, 0.75].map((share) => quantile(ratios, share).toFixed(3));
  const medians = [taken.old, taken.new].map((values) => quantile(values, 0.5).toFixed(2));
  process.stdout.write(`${method}: old ${medians[0]} ms, new ${medians[1]} ms, ratio ${middle} (${low} to ${high})\n`);
}
for (const build of Object.values(builds)) build.end();
