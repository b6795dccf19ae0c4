// Every check there is, each runnable alone: `npm test -- vitest clippy`. A check never throws for what it finds: it reports counts.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { sanitizedTests, sanitizerEnvironment } from '../kernels/sanitizers.mjs';
import { findProgram, run } from '../lib/exec.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { addCargoToPath } from '../setup/needed-programs.mjs';
import { setup } from '../setup/setup.mjs';
import { turbo } from '../setup/typescript.mjs';
import { evaluationModel, testModel } from './models.mjs';
import { nodeTests } from './node-tests.mjs';
import { cargoTestCounts, vitestCounts, vitestSkips } from './reports.mjs';
import { provideSchemathesis } from './schemathesis.mjs';

/** A check that takes longer hangs. */
const TIMEOUT_MS = 25 * 60_000;
/** Of checks that run whole models on the stand-in for a device: 46 minutes on two quiet cores. */
const STAND_IN_TIMEOUT_MS = 3 * 60 * 60_000;
const ACTIONLINT = 'github.com/rhysd/actionlint/cmd/actionlint@v1.7.12';

/**
 * @typedef {object} Finding
 * @property {import('./reports.mjs').Counts} counts
 * @property {string} output what to show when something failed
 * @property {string} [note]
 */

/**
 * @typedef {object} Check
 * @property {string} name
 * @property {string} about
 * @property {'build'} [needs] the check that must have run before this one
 * @property {() => Promise<Finding>} run
 */

const one = { passed: { passed: 1, failed: 0, skipped: 0 }, failed: { passed: 0, failed: 1, skipped: 0 } };

/** A program whose exit code is the answer. @param {string} name @param {Parameters<typeof run>[0]} command */
async function program(name, command) {
  const { code, output } = await logged(name, command);
  return { counts: code === 0 ? one.passed : one.failed, output };
}

/** @param {string} name @param {Parameters<typeof run>[0]} command */
function logged(name, command) {
  return run({ timeoutMs: TIMEOUT_MS, log: join(toolsDir, 'logs', `check-${name}.log`), ...command });
}

/** @param {string} name @param {string[]} args @returns {Promise<Finding>} */
function bin(name, args) {
  return program(name, { command: join(root, 'node_modules/.bin', name), args });
}

/** @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function cargo(args, env = {}) {
  addCargoToPath();
  return { command: join(root, 'scripts/cargo'), args, env: { CARGO_TERM_COLOR: 'never', ...process.env, ...env } };
}

/** Each test that runs a model takes every core: side by side their threads would wait for each other. */
const oneAtATime = { RUST_TEST_THREADS: '1' };

/** @param {string} name @param {string[]} args @param {NodeJS.ProcessEnv} [env] @param {number} [timeoutMs] @returns {Promise<Finding>} */
async function cargoTest(name, args, env, timeoutMs = TIMEOUT_MS) {
  const { code, output } = await logged(name, { ...cargo(['test', ...args], env), timeoutMs });
  return { counts: cargoTestCounts(output, code), output };
}

/** Where Miri comes from; it is a component of nightly Rust only. */
const MIRI_INSTALL = 'rustup toolchain install nightly --profile minimal --component miri,rust-src';

/** What Miri can run: no model, no threads' worth of work, the scalar kernels. @returns {Promise<Finding>} */
async function miri() {
  // Tests read files of the repository; pages carry their addresses as numbers, as a device's would be; a few cases take Miri minutes.
  const env = { MIRIFLAGS: '-Zmiri-disable-isolation -Zmiri-permissive-provenance', PROPTEST_CASES: '4' };
  const nightly = (/** @type {string[]} */ args) => cargo(['+nightly', 'miri', ...args], env);
  if ((await logged('miri-version', nightly(['--version']))).code !== 0) {
    return { counts: { passed: 0, failed: 0, skipped: 1 }, output: '', note: `no Miri: ${MIRI_INSTALL}` };
  }
  const { code, output } = await logged('miri', nightly(['test', '--locked', '--lib', ...packages(miriCrates)]));
  return { counts: cargoTestCounts(output, code), output };
}

/** Crates whose unit tests run in Miri; those that are too long for it say so themselves. */
const miriCrates = ['ctkvr-kernels', 'ctkvr-core'];

/** Crates without ggml. */
const bareCrates = ['ctkvr-threads', 'ctkvr-kernels', 'ctkvr-core', 'ctkvr-baselines'];

/**
 * How Rust's tests are built: the release profile, whose ggml is built already, with overflow checks and debug assertions for what the CPU
 * executor runs. One set of flags for all of them, so that crates are compiled once.
 */
const testBuild = [
  '--locked',
  '--release',
  ...[...bareCrates, 'ctkvr-engine', 'ctkvr-cpu'].flatMap((crate) => [
    ...config(`package.${crate}.debug-assertions=true`),
    ...config(`package.${crate}.overflow-checks=true`),
  ]),
];

/** @param {string} setting of the release profile */
function config(setting) {
  return ['--config', `profile.release.${setting}`];
}

/** Tests of the CPU executor that run models. */
const modelTestsOfCpu = ['--test=engine', '--test=bad_files', '--test=llama_equivalence'];

/** Crates that need ggml and no particular executor. */
const modelCrates = ['ctkvr-model', 'ctkvr-engine', 'ctkvr-reference'];

/** @param {string[]} crates */
const packages = (crates) => crates.flatMap((crate) => ['-p', crate]);

const cudaTests = [...testBuild, '-p', 'ctkvr-cuda'];

/** Whole models on the stand-in. @param {string} name @param {string[]} tests @param {NodeJS.ProcessEnv} [env] @returns {Promise<Finding>} */
async function standInTest(name, tests, env) {
  return cargoTest(name, [...cudaTests, ...tests], { ...oneAtATime, ...env }, STAND_IN_TIMEOUT_MS);
}

/** @param {string} name @param {string} sanitizer @returns {Promise<Finding>} */
async function sanitized(name, sanitizer) {
  return cargoTest(name, sanitizedTests, await sanitizerEnvironment(sanitizer), STAND_IN_TIMEOUT_MS);
}

const modelTests = ['.model.test.ts', '--no-file-parallelism'];

/** @param {string} name @param {string[]} args @param {NodeJS.ProcessEnv} [env] @returns {Promise<Finding>} */
async function vitest(name, args, env) {
  const report = join(toolsDir, `reports/${name}.json`);
  mkdirSync(join(toolsDir, 'reports'), { recursive: true });
  rmSync(report, { force: true });
  const { code, output } = await logged(name, {
    command: join(root, 'node_modules/.bin/vitest'),
    args: ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...args],
    env: { ...process.env, NO_COLOR: '1', ...env },
  });
  const json = readFileSync(report, 'utf8');
  return { counts: vitestCounts(json, code), output, note: vitestSkips(json).join('; ') };
}

/** @returns {Promise<Finding>} */
async function serverContract() {
  const folder = await provideSchemathesis();
  if (folder === null) {
    const note = 'no Python 3.11 or newer: Schemathesis needs it';
    return { counts: { passed: 0, failed: 0, skipped: 1 }, output: '', note };
  }
  return vitest('server-contract', ['apps/server/test/schemathesis.test.ts'], { CTKVR_SCHEMATHESIS: folder });
}

/** @returns {Promise<Finding>} */
async function workflows() {
  const local = join(toolsDir, 'bin/actionlint');
  let actionlint = findProgram('actionlint') ?? findProgram('actionlint', { PATH: join(toolsDir, 'bin') });
  if (!actionlint && findProgram('go')) {
    const env = { ...process.env, GOBIN: join(toolsDir, 'bin'), GOTOOLCHAIN: 'local' };
    if ((await logged('actionlint-install', { command: 'go', args: ['install', ACTIONLINT], env })).code === 0)
      actionlint = local;
  }
  if (!actionlint) {
    const note = 'no actionlint: install it, or Go to have it built';
    return { counts: { passed: 0, failed: 0, skipped: 1 }, output: '', note };
  }
  return program('workflows', { command: actionlint, args: ['-color=false'] });
}

/** @param {'packages' | 'build'} goal @returns {Promise<Finding>} */
async function prepared(goal) {
  try {
    await setup(goal);
    return { counts: one.passed, output: '' };
  } catch (error) {
    return { counts: one.failed, output: error instanceof Error ? error.message : String(error) };
  }
}

/** @type {Record<string, Check>} */
export const checks = Object.fromEntries(
  /** @type {Check[]} */ ([
    { name: 'packages', about: 'pnpm and node_modules', run: () => prepared('packages') },
    { name: 'build', about: 'native engine and every dist/', run: () => prepared('build') },
    { name: 'biome', about: 'format and lint', run: () => bin('biome', ['ci', '--colors=off', '.']) },
    {
      name: 'types',
      needs: 'build',
      about: 'tsc, strict',
      run: () => program('types', turbo(['run', 'typecheck', '--continue'])),
    },
    { name: 'script-types', about: 'tsc over scripts/', run: () => bin('tsc', ['-p', 'scripts']) },
    {
      name: 'publint',
      needs: 'build',
      about: 'package.json of what is published',
      run: () => program('publint', turbo(['run', 'publint', '--continue'])),
    },
    {
      name: 'attw',
      needs: 'build',
      about: 'types of what is published, as its users resolve them',
      run: () => program('attw', turbo(['run', 'attw', '--continue'])),
    },
    {
      name: 'docs',
      needs: 'build',
      about: 'API pages, warnings are errors',
      run: () => bin('typedoc', ['--logLevel', 'Warn']),
    },
    {
      name: 'packed',
      needs: 'build',
      about: 'packed packages in empty projects run the examples of their READMEs',
      run: () => nodeTests('packed'),
    },
    { name: 'workflows', about: 'actionlint over .github/workflows', run: workflows },
    {
      name: 'cargo-fmt',
      about: 'format',
      run: () => program('cargo-fmt', cargo(['fmt', '--all', '--check', '--', '--color=never'])),
    },
    {
      name: 'clippy',
      about: 'lint; in the release profile, which has ggml built already',
      run: () =>
        program(
          'clippy',
          cargo(['clippy', '--locked', '--release', '--workspace', '--all-targets', '--', '-D', 'warnings']),
        ),
    },
    {
      name: 'cargo-core',
      about: 'thread team, kernels and core with overflow checks and debug assertions',
      run: () => cargoTest('cargo-core', [...testBuild, ...packages(bareCrates)]),
    },
    {
      name: 'loom',
      about: 'every interleaving of small jobs on the thread team, by a model checker',
      run: () =>
        cargoTest('loom', [...testBuild, '-p', 'ctkvr-threads', '--lib', 'model_tests'], {
          RUSTFLAGS: '--cfg loom',
          CARGO_TARGET_DIR: join(root, 'rust-kernels/target/loom'),
        }),
    },
    {
      name: 'miri',
      about: 'pointers, aliasing and uninitialised memory of kernels, pool and index, interpreted',
      run: miri,
    },
    {
      name: 'cargo-model',
      about: "model and engine; the engine's tests on the reference executor",
      run: () => cargoTest('cargo-model', [...testBuild, ...packages(modelCrates)], oneAtATime),
    },
    {
      name: 'cargo-attention',
      about: 'attention of the CPU executor, without a model, with overflow checks and debug assertions',
      run: () => cargoTest('cargo-attention', [...testBuild, '-p', 'ctkvr-cpu', '--lib', '--test=attention']),
    },
    {
      name: 'cargo-cpu',
      needs: 'build',
      about:
        'whole models on the CPU executor, with overflow checks and debug assertions, and against llama.cpp on the small model',
      run: async () =>
        cargoTest('cargo-cpu', [...testBuild, '-p', 'ctkvr-cpu', ...modelTestsOfCpu], {
          CTKVR_TEST_MODEL: await testModel(),
          ...oneAtATime,
        }),
    },
    {
      name: 'cargo-cuda',
      about:
        'the CUDA kernels, compiled for the CPU, through their launchers and a stand-in for the driver; parts of what measures a card',
      run: () =>
        cargoTest('cargo-cuda', [
          ...cudaTests,
          ...packages(['ctkvr-gpu-run']),
          ...['--lib', '--bins', '--test=driver', '--test=kernels'],
        ]),
    },
    {
      name: 'cuda-ledger',
      about: 'bytes that each CUDA kernel reads and writes, counted on the stand-in, beside its formula',
      run: () => cargoTest('cuda-ledger', [...cudaTests, '--features=ledger', '--test=ledger']),
    },
    {
      name: 'cuda-address',
      about: 'the tests of cargo-cuda with the kernels under AddressSanitizer and UndefinedBehaviorSanitizer',
      run: () => sanitized('cuda-address', 'address'),
    },
    {
      name: 'cuda-thread',
      about: 'the tests of cargo-cuda with the kernels under ThreadSanitizer',
      run: () => sanitized('cuda-thread', 'thread'),
    },
    {
      name: 'cuda-engine',
      about: "the engine's tests on the device's executor, on the stand-in; weights of Q6_K, which only devices pack",
      run: () => standInTest('cuda-engine', ['--test=engine', '--test=step', '--test=q6k']),
    },
    {
      name: 'cuda-hybrid',
      about: "the engine's tests with keys and values in host memory, device and CPU together, on the stand-in",
      run: () => standInTest('cuda-hybrid', ['--test=hybrid']),
    },
    {
      name: 'cuda-model',
      needs: 'build',
      about: "the small model on the device's executor, on the stand-in, beside the CPU's",
      run: async () => standInTest('cuda-model', ['--test=smollm2'], { CTKVR_TEST_MODEL: await testModel() }),
    },
    {
      name: 'cuda-node',
      needs: 'build',
      about: 'the built command line on the stand-in: an answer, a device that is lost',
      run: async () => nodeTests('device', { CTKVR_TEST_MODEL: await testModel() }),
    },
    {
      name: 'cuda-rehearsal',
      needs: 'build',
      about: 'scripts/gpu/run as it goes to a machine with a card, at tiny shapes on the stand-in',
      run: () => nodeTests('gpu'),
    },
    {
      name: 'cuda-code',
      about:
        'the CUDA kernels compiled for every generation: registers, spills, loads, beside the table of docs/results',
      run: () =>
        program('cuda-code', {
          command: process.execPath,
          args: ['scripts/kernels/main.mjs', '--check'],
          timeoutMs: 60 * 60_000,
        }),
    },
    {
      name: 'vitest',
      needs: 'build',
      about: 'every *.test.ts that needs no model',
      run: () => vitest('vitest', ['--exclude=**/*.model.test.ts']),
    },
    {
      name: 'vitest-model',
      needs: 'build',
      about: 'every *.model.test.ts on the small model, one file after the other: some measure time',
      run: async () => vitest('vitest-model', modelTests, { CTKVR_TEST_MODEL: await testModel() }),
    },
    {
      name: 'server-contract',
      needs: 'build',
      about: 'requests that Schemathesis makes from /openapi.json, and answers held to it; no model',
      run: serverContract,
    },
    {
      name: 'server-load',
      needs: 'build',
      about: 'the server with 64 clients for a minute, on the small model; prints times',
      run: async () =>
        vitest('server-load', ['under-load.test.ts'], {
          CTKVR_TEST_MODEL: await testModel(),
          CTKVR_LOAD_SECONDS: '60',
        }),
    },
    {
      name: 'end-to-end',
      needs: 'build',
      about: 'the built command line on the small model',
      run: async () => nodeTests('end-to-end', { CTKVR_TEST_MODEL: await testModel() }),
    },
    {
      name: 'cargo-evaluation-model',
      needs: 'build',
      about: 'the CPU executor against llama.cpp on the long-context model',
      run: async () =>
        cargoTest('cargo-evaluation-model', ['--locked', '--release', '-p', 'ctkvr-cpu'], {
          CTKVR_TEST_MODEL: await evaluationModel(),
          ...oneAtATime,
        }),
    },
    {
      name: 'vitest-evaluation-model',
      needs: 'build',
      about: 'every *.model.test.ts on the long-context model',
      run: async () =>
        vitest('vitest-evaluation-model', modelTests, {
          CTKVR_TEST_MODEL: await evaluationModel(),
          CTKVR_TEST_SCHEMAS: '200',
          CTKVR_TEST_LONG: '1',
        }),
    },
  ]).map((check) => [check.name, check]),
);
