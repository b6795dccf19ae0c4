// Every kernels/*.cu for every target, each compiled once for its content. Results lie in .tools/kernels, named <file>.<target>.cubin or .ptx,
// as rust-kernels/crates/ctkvr-cuda/build.rs takes them (CTKVR_CUDA_KERNELS).
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { digest, exists } from '../lib/digest.mjs';
import { SetupError, say } from '../lib/messages.mjs';
import { root, rustDir, toolsDir } from '../lib/paths.mjs';
import { cudaTools, python } from './tools.mjs';

/** Machine code for A100, RTX 30, RTX 40, H100, B200, RTX 50; and PTX, for what comes later. */
export const targets = ['sm_80', 'sm_86', 'sm_89', 'sm_90', 'sm_100', 'sm_120', 'compute_80'];

const driver = fileURLToPath(new URL('nvrtc.py', import.meta.url));
const requirements = join(root, 'scripts/cuda-tools.txt');
export const kernelsDir = join(rustDir, 'crates/ctkvr-cuda/kernels');
export const imagesDir = join(toolsDir, 'kernels');

/**
 * @typedef {object} Compiled
 * @property {string} file name of the .cu file without extension
 * @property {string} target
 * @property {string} image path
 * @property {string} log path of what the compiler said
 */

/** Compiles what has changed. @param {string[]} only names of .cu files, all if empty @returns {Promise<Compiled[]>} @throws {SetupError} with the compiler's words */
export async function compileKernels(only = []) {
  mkdirSync(imagesDir, { recursive: true });
  const sources = readdirSync(kernelsDir).filter((name) => name.endsWith('.cu'));
  const names = sources.map((name) => basename(name, '.cu')).filter((name) => only.length === 0 || only.includes(name));
  const all = names.flatMap((file) =>
    targets.map((target) => ({ ...places(file, target), digest: inputs(file, target) })),
  );
  const stale = all.filter((one) => !exists(one.image) || !exists(one.log) || stampOf(one) !== one.digest);
  if (stale.length > 0) say(`compiling ${stale.length} of ${all.length} images of kernels ...`);
  await runDrivers(stale);
  if (only.length === 0) removeOthers(new Set(all.flatMap((one) => [one.image, one.log, `${one.image}.stamp`])));
  return all;
}

/** @param {string} file @param {string} target @returns {Compiled} */
function places(file, target) {
  const image = join(imagesDir, `${file}.${target}.${target.startsWith('sm_') ? 'cubin' : 'ptx'}`);
  return { file, target, image, log: `${image}.log` };
}

/** @param {string} file @param {string} target */
function inputs(file, target) {
  const files = [driver, requirements, ...withHeaders(join(kernelsDir, `${file}.cu`))];
  return digest({ files, values: [target] });
}

/** A source and what it includes of ours. @param {string} path @param {Set<string>} seen @returns {Set<string>} */
function withHeaders(path, seen = new Set()) {
  if (seen.has(path)) return seen;
  seen.add(path);
  for (const [, name] of readFileSync(path, 'utf8').matchAll(/^#include "([^"]+)"/gm))
    withHeaders(join(kernelsDir, name ?? ''), seen);
  return seen;
}

/** @param {Compiled} compiled */
function stampOf({ image }) {
  return exists(`${image}.stamp`) ? readFileSync(`${image}.stamp`, 'utf8') : '';
}

/**
 * Side by side, as many as there are processors. What is compiled stays compiled, whatever becomes of the others.
 * @param {(Compiled & { digest: string })[]} jobs
 */
async function runDrivers(jobs) {
  const count = Math.min(availableParallelism(), jobs.length);
  const shares = Array.from({ length: count }, (_, i) => jobs.filter((_, j) => j % count === i));
  const failed = (await Promise.all(shares.map(runDriver))).flat();
  if (failed.length === 0) return;
  const texts = failed.map(
    ({ file, target, log }) => `${file}.cu for ${target}:\n${readFileSync(log, 'utf8').trimEnd()}`,
  );
  throw new SetupError(`kernels do not compile.\n${texts.slice(0, 3).join('\n')}`);
}

/** Those that do not compile. @param {(Compiled & { digest: string })[]} jobs @returns {Promise<Compiled[]>} */
function runDriver(jobs) {
  const request = {
    library: cudaTools.library,
    includes: [kernelsDir, cudaTools.headers],
    jobs: jobs.map(({ file, target, image, log }) => ({ source: join(kernelsDir, `${file}.cu`), target, image, log })),
  };
  return new Promise((resolve, reject) => {
    const child = spawn(python(), [driver], { stdio: ['pipe', 'pipe', 'pipe'] });
    /** @type {Compiled[]} */
    const failed = [];
    let done = 0;
    let errors = '';
    // A line for each job, in their order.
    createInterface({ input: child.stdout }).on('line', (line) => {
      const job = /** @type {Compiled & { digest: string }} */ (jobs[done]);
      done += 1;
      if (JSON.parse(line).ok) writeFileSync(`${job.image}.stamp`, job.digest);
      else failed.push(job);
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors += text;
    });
    child.on('error', reject);
    child.on('close', () => {
      if (done === jobs.length) resolve(failed);
      else reject(new SetupError(`the kernels' compiler failed: ${errors.trimEnd()}`));
    });
    child.stdin.end(JSON.stringify(request));
  });
}

/** Images of files that are gone would be built in. @param {Set<string>} kept */
function removeOthers(kept) {
  for (const name of readdirSync(imagesDir)) {
    const path = join(imagesDir, name);
    if (!kept.has(path)) rmSync(path, { recursive: true });
  }
}
