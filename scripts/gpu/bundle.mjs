// `node scripts/gpu/bundle.mjs FOLDER [--targets sm_90,sm_89]`: makes the folder that scripts/gpu/run needs on a machine with a card, with the kernels that
// scripts/kernels compiled; of few targets it is small. It needs a C library at least as new as the one here, and a CPU that ggml here was
// built for (CFLAGS and CXXFLAGS say another). `--without-kernels`: for the stand-in, which has its own.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { targets as allTargets, imagesDir } from '../kernels/compile.mjs';
import { exists } from '../lib/digest.mjs';
import { run } from '../lib/exec.mjs';
import { runMain, SetupError, say } from '../lib/messages.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { addCargoToPath } from '../setup/needed-programs.mjs';

/** What a machine with a card takes at once. */
const MAX_BYTES = 64 << 20;
const scripts = ['run', 'torch_sdpa.py'];

/** @typedef {{ folder: string, targets: string[] }} BundleOptions no targets: no kernels */

/**
 * Makes a bundle.
 * @param {BundleOptions} options
 * @returns {Promise<{ bytes: number, standIn: string }>} `standIn`: the stand-in for a driver that was built with its tests
 * @throws {SetupError}
 */
export async function makeBundle({ folder, targets }) {
  // Without targets it is as it was: another value would have cargo build everything anew.
  const env = { ...process.env, ...(targets.length > 0 && { CTKVR_CUDA_KERNELS: chosenImages(targets) }) };
  mkdirSync(folder, { recursive: true });
  const built = [
    // What is measured there is linked as the product is: packages/native/scripts/build-native.mjs.
    ...(await build(['rustc', '-p', 'ctkvr-gpu-run', '--bin', 'ctkvr-gpu-run', '--', '-Clto=thin'], env)),
    // The tests of kernels and engine run there as they are.
    ...(await build(['test', '-p', 'ctkvr-cuda', '--test', 'kernels', '--test', 'engine', '--no-run'], env)),
  ];
  for (const name of ['ctkvr-gpu-run', 'kernels', 'engine']) {
    const program = built.find(({ target, executable }) => target?.name === name && executable);
    if (!program) throw new SetupError(`cargo built no program ${name}`);
    copyFileSync(program.executable, join(folder, name));
  }
  for (const name of scripts) copyFileSync(join(root, 'scripts/gpu', name), join(folder, name));
  const { stdout: commit } = await run({ command: 'git', args: ['describe', '--always', '--dirty', '--abbrev=12'] });
  const library = /** @type {any} */ (process.report.getReport()).header.glibcVersionRuntime ?? 'unknown';
  writeFileSync(
    join(folder, 'bundle.txt'),
    `${commit.trim() || 'unknown'}, kernels for ${targets.join(' ') || 'none'}, C library ${library}\n`,
  );
  const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  if (bytes > MAX_BYTES)
    throw new SetupError(
      `${folder} has ${megabytes(bytes)}, ${megabytes(MAX_BYTES)} are allowed: name fewer targets (--targets sm_90)`,
    );
  const variables = built.flatMap(({ env: ofBuild }) => ofBuild ?? []);
  const standIn = variables.find(([name]) => name === 'CTKVR_STAND_IN_LIBRARY')?.[1] ?? '';
  return { bytes, standIn };
}

/** A folder with the compiled kernels of some targets. @param {string[]} targets */
function chosenImages(targets) {
  const names = exists(imagesDir) ? readdirSync(imagesDir) : [];
  const wanted = names.filter((name) => targets.some((target) => new RegExp(`\\.${target}\\.(cubin|ptx)$`).test(name)));
  const missing = targets.filter((target) => !wanted.some((name) => name.includes(`.${target}.`)));
  if (missing.length > 0)
    throw new SetupError(`there are no compiled kernels for ${missing.join(', ')}: node scripts/kernels/main.mjs`);
  const chosen = join(toolsDir, `kernels-${targets.join('-')}`);
  mkdirSync(chosen, { recursive: true });
  for (const name of readdirSync(chosen).filter((old) => !wanted.includes(old))) rmSync(join(chosen, name));
  // A file that is the same stays as it is: cargo looks at times.
  for (const name of wanted) {
    const [from, to] = [join(imagesDir, name), join(chosen, name)];
    if (!exists(to) || !readFileSync(from).equals(readFileSync(to))) copyFileSync(from, to);
  }
  return chosen;
}

/** cargo's messages about what it built. @param {string[]} args @param {NodeJS.ProcessEnv} env @returns {Promise<any[]>} */
async function build(args, env) {
  addCargoToPath();
  const [verb = '', ...rest] = args;
  const { code, stdout, output } = await run({
    command: join(root, 'scripts/cargo'),
    args: [verb, '--locked', '--release', '--message-format=json', ...rest],
    // With the folder of cargo that `addCargoToPath` added.
    env: { ...env, PATH: process.env.PATH },
    log: join(toolsDir, 'logs/gpu-bundle.log'),
  });
  if (code !== 0)
    throw new SetupError(`the bundle's programs do not build:\n${compilerWords(stdout) || output.slice(-2000)}`);
  return messages(stdout);
}

/** cargo's messages, a line each. @param {string} stdout @returns {any[]} */
function messages(stdout) {
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}

/** @param {string} stdout */
function compilerWords(stdout) {
  const errors = messages(stdout).filter(({ message }) => message?.level === 'error');
  return errors.map(({ message }) => message.rendered).join('\n');
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await runMain(async () => {
    const args = process.argv.slice(2);
    const at = args.indexOf('--targets');
    const [named] = at < 0 ? [] : args.splice(at, 2).slice(1);
    const withoutKernels = args.includes('--without-kernels');
    const [folder, ...others] = args.filter((arg) => arg !== '--without-kernels');
    if (!folder || folder.startsWith('-') || others.length > 0)
      throw new SetupError('node scripts/gpu/bundle.mjs FOLDER [--targets sm_90,...] [--without-kernels]');
    const targets = withoutKernels ? [] : (named?.split(',') ?? allTargets);
    const { bytes } = await makeBundle({ folder: resolve(folder), targets });
    say(`${folder}: ${megabytes(bytes)}. On the machine with a card: bash ${folder}/run`);
  });
}
