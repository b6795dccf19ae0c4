// scripts/gpu/run as it goes to a machine with a card, at tiny shapes on the stand-in for the driver: every step works, every section of the report
// is there, every kernel is right. Nothing here looks at a time.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { rustDir, toolsDir } from '../lib/paths.mjs';
import { makeBundle } from './bundle.mjs';

const dir = mkdtempSync(join(tmpdir(), 'ctkvr-rehearsal-'));
after(() => rmSync(dir, { recursive: true }));
const [bundle, out] = [join(dir, 'bundle'), join(dir, 'out')];
/** @type {any} */
let report;
/** @type {import('node:child_process').SpawnSyncReturns<string>} */
let ran;

before(async () => {
  const { standIn } = await makeBundle({ folder: bundle, targets: [] });
  assert.ok(standIn, 'cargo says where the stand-in is');
  ran = spawnSync('bash', [join(bundle, 'run'), '--rehearse', '--out', out], {
    encoding: 'utf8',
    cwd: dir,
    env: { ...process.env, CTKVR_CUDA_DRIVER: standIn },
  });
  // For whoever looks into a failure.
  const kept = join(toolsDir, 'logs/gpu-rehearsal');
  mkdirSync(kept, { recursive: true });
  spawnSync('cp', ['-r', `${out}/.`, kept]);
  report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
});

test('the script ends well and says where its report is', () => {
  assert.equal(ran.status, 0, `${ran.stdout}\n${ran.stderr}`);
  assert.match(ran.stdout, /out\/report\.md, after \d+ s\n$/);
});

test('every step ran to its end', () => {
  const steps = ['facts', 'right-kernels', 'right-engine', 'ceilings', 'decode', 'kernels', 'prefill', 'index'];
  const outcomes = Object.fromEntries(report.outcomes.map((/** @type {any} */ one) => [one.of, one.outcome]));
  for (const step of steps) assert.equal(outcomes[step], 'done', step);
});

test('every kernel is right, each test of the repository that can run on a card was run', () => {
  const { kernels, engine } = report.tests;
  assert.deepEqual([kernels.allRight, kernels.wrong, kernels.notRun], [true, [], 0]);
  assert.deepEqual([engine.allRight, engine.wrong], [true, []]);
  const run = new Set(readFileSync(join(out, 'logs/right-kernels.txt'), 'utf8').match(/^test \w+::/gm));
  // A family that has no test would be right unseen.
  const files = readdirSync(join(rustDir, 'crates/ctkvr-cuda/tests/kernels')).filter((name) => name.endsWith('.rs'));
  const modules = files.map((name) => name.replace('.rs', '')).filter((name) => name !== 'main');
  assert.deepEqual([...run].sort(), modules.map((name) => `test ${name}::`).sort());
});

test('a decode of all contenders is there for every number of sequences, and CTkvr reads less', () => {
  const rows = report.steps.decode.filter((/** @type {any} */ row) => row.reads);
  const seen = rows.map((/** @type {any} */ row) => `${row.sequences} ${row.reads}`);
  assert.deepEqual(
    seen,
    [1, 2].flatMap((n) => ['dense', 'ctkvr', 'ctkvr, host'].map((reads) => `${n} ${reads}`)),
  );
  for (const n of [1, 2]) {
    const [dense, ctkvr, host] = rows.filter((/** @type {any} */ row) => row.sequences === n);
    // 2 layers of 2 KV heads, 1,500 keys and values of 64 halves each.
    assert.equal(dense.attention_gb, Math.round((n * 2 * 2 * 2 * 1500 * 128) / 1e5) / 1e4);
    assert.ok(ctkvr.attention_gb < dense.attention_gb, `${n}: ${ctkvr.attention_gb} of ${dense.attention_gb} GB`);
    assert.ok(ctkvr.scored_a_head > 0 && ctkvr.selected_a_head > 0);
    // The text is made up so that what is chosen, and the tail, hold nearly all of the attention.
    assert.ok(ctkvr.cosine > 0.95, `${n}: cosine ${ctkvr.cosine} to dense`);
    // What is chosen is the same, whoever attends to it.
    assert.ok(host.cosine > 0.95, `${n}: cosine ${host.cosine} to dense`);
    assert.ok(host.cpu_ms > 0 && host.cpu_ms < host.step_ms);
  }
});

test('every kind of kernel that a decode launches was timed', () => {
  const timed = new Set(report.steps.kernels.map((/** @type {any} */ row) => row.kernel));
  for (const kernel of [
    'linear: gate and up',
    'norm_round',
    'rope_store',
    'silu_round',
    'attend (everything)',
    'probe',
    'score',
    'select',
  ])
    assert.ok(timed.has(kernel), kernel);
});

test('indexes that the device builds are those of the core, but for near ties', () => {
  const rows = report.steps.index.filter((/** @type {any} */ row) => row.on === 'device');
  assert.equal(rows.length, 2);
  for (const row of rows) assert.ok(row.same_percent > 95, `${row.same_percent} %`);
});

test('what is not on this machine is said, not left out', () => {
  for (const step of ['torch', 'sanitizers', 'profile']) assert.ok(report.steps[step].length > 0, step);
});

test('the page has every section and says that no figure is a card’s', () => {
  const page = readFileSync(join(out, 'report.md'), 'utf8');
  assert.match(page, /^# A rehearsal: no figure here is a card's\n/);
  assert.doesNotMatch(page, /the step did not get so far|Not run\./);
  for (const title of [
    'Machine',
    'Every kernel against its reference',
    'Ceilings',
    'Kernels of a decode',
    'PyTorch SDPA',
    'Prefill',
    'Index build',
    'Sanitizers',
    'Nsight Compute',
  ])
    assert.ok(page.includes(`\n## ${title}\n`), title);
});
