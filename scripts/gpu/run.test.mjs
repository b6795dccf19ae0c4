// scripts/gpu/run with a stand-in for its program: what becomes of steps that fail, of tools that are there or not, and of the status.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { root } from '../lib/paths.mjs';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-gpu-run-'));
  for (const name of ['bundle', 'tools']) mkdirSync(join(dir, name));
  copyFileSync(join(root, 'scripts/gpu/run'), join(dir, 'bundle/run'));
  writeFileSync(join(dir, 'bundle/bundle.txt'), 'abc "quoted"\n');
  program('bundle/ctkvr-gpu-run', 'echo "{\\"step\\":\\"$1\\",\\"said\\":\\"$*\\"}"');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A shell script. @param {string} name @param {string} text */
function program(name, text) {
  writeFileSync(join(dir, name), `#!/bin/bash\n${text}\n`);
  chmodSync(join(dir, name), 0o755);
}

/** Runs the script; no Python, and of tools only those that a test made. Lines that are no JSON come as texts. @param {string[]} args */
function gpuRun(args = []) {
  for (const name of [
    'bash',
    'timeout',
    'mkdir',
    'date',
    'tr',
    'sed',
    'head',
    'tail',
    'grep',
    'cut',
    'dirname',
    'cat',
  ]) {
    const found = spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim();
    if (!existsSync(join(dir, 'tools', name))) program(`tools/${name}`, `exec ${found} "$@"`);
  }
  const env = { PATH: join(dir, 'tools') };
  const { status, stdout, stderr } = spawnSync(
    '/bin/bash',
    [join(dir, 'bundle/run'), '--out', join(dir, 'out'), ...args],
    {
      encoding: 'utf8',
      cwd: dir,
      env,
    },
  );
  const path = join(dir, 'out/lines.jsonl');
  const lines = existsSync(path)
    ? readFileSync(path, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => (line.endsWith('}') ? JSON.parse(line) : line))
    : [];
  return { status, stdout, stderr, lines };
}

/** @param {any[]} lines @param {string} step */
const outcomeOf = (lines, step) => lines.find((line) => line.step === 'outcome' && line.of === step)?.outcome;
/** @param {any[]} lines @param {string} step */
const linesOf = (lines, step) => lines.filter((line) => line.step === step);

test('every step runs, and what is not there is said', () => {
  const { status, lines, stderr } = gpuRun();
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const done = lines.filter((line) => line.step === 'outcome').map((line) => line.of);
  expect(done).toEqual(['facts', 'right-kernels', 'right-engine', 'ceilings', 'decode', 'kernels', 'prefill', 'index']);
  expect(linesOf(lines, 'run')[0]).toMatchObject({ rehearsal: 'no', bundle: 'abc  quoted' });
  expect(linesOf(lines, 'decode')[0].said).toBe('decode --shape llama');
  expect(linesOf(lines, 'torch')[0].note).toBe('no Python: not run');
  expect(linesOf(lines, 'sanitizers')[0].outcome).toContain('not there');
  expect(linesOf(lines, 'profile')[0].outcome).toContain('not there');
});

test('a rehearsal has tiny shapes', () => {
  const { status, lines } = gpuRun(['--rehearse']);
  expect(status).toBe(0);
  expect(linesOf(lines, 'run')[0].rehearsal).toBe('yes');
  expect(linesOf(lines, 'decode')[0].said).toBe('decode --shape tiny');
});

test('a step that fails in the middle of a line stops neither the others nor their lines', () => {
  program(
    'bundle/ctkvr-gpu-run',
    'if [ $1 = ceilings ]; then printf "{\\"step\\":\\"ceil"; echo "the \\"device\\" is lost" >&2; exit 1; fi; echo "{\\"step\\":\\"$1\\"}"',
  );
  const { status, lines } = gpuRun();
  expect(status).toBe(1);
  expect(lines).toContain('{"step":"ceil');
  expect(outcomeOf(lines, 'ceilings')).toBe('failed: status 1, the  device  is lost');
  expect(outcomeOf(lines, 'prefill')).toBe('done');
});

test('a step that was stopped is told from one that failed', () => {
  program('bundle/ctkvr-gpu-run', '[ $1 != decode ] || exit 124');
  const { status, lines } = gpuRun();
  expect(status).toBe(1);
  expect(outcomeOf(lines, 'decode')).toBe('stopped: too long');
});

test('sanitizers run on small shapes, and what they find is in the report and the status', () => {
  program(
    'tools/compute-sanitizer',
    'echo "========= ERROR SUMMARY: $([ $2 = racecheck ] && echo 2 || echo 0) errors"; [ $2 != racecheck ] || { echo "========= Error: Race reported"; exit 9; }',
  );
  const { status, lines } = gpuRun();
  expect(status).toBe(1);
  const found = linesOf(lines, 'sanitizers').map(({ tool, of, outcome }) => `${tool} ${of}: ${outcome}`);
  expect(found).toEqual([
    'memcheck decode: clean',
    'racecheck decode: status 9',
    'initcheck decode: clean',
    'synccheck decode: clean',
    'memcheck prefill: clean',
    'racecheck prefill: status 9',
  ]);
  expect(linesOf(lines, 'sanitizers')[1].summary).toContain('2 errors');
  expect(linesOf(lines, 'sanitizers')[1].summary).toContain('Race reported');
});

test('a profiler that may not look says so', () => {
  program(
    'tools/ncu',
    'while [ $# -gt 0 ]; do [ $1 = --log-file ] && echo "==ERROR== ERR_NVGPUCTRPERM" >$2; shift; done; exit 1',
  );
  const { status, lines } = gpuRun();
  expect(status).toBe(0);
  expect(linesOf(lines, 'profile')[0].outcome).toBe('ncu failed: ==ERROR== ERR_NVGPUCTRPERM');
});

test('what a step prints under a profiler or a sanitizer is no result', () => {
  program('tools/ncu', 'echo "==PROF== Connected"; echo "{\\"step\\":\\"decode\\"}"');
  program('tools/compute-sanitizer', 'echo "{\\"step\\":\\"decode\\"}"');
  const { status, lines } = gpuRun();
  expect(status).toBe(0);
  expect(lines.every((line) => typeof line === 'object')).toBe(true);
  expect(linesOf(lines, 'decode').map(({ said }) => said)).toEqual(['decode --shape llama']);
  expect(linesOf(lines, 'profile')[0].outcome).toBe('done');
});

test('PyTorch is used where it is there, not in a rehearsal', () => {
  program('tools/python3', '[ $1 = -c ] || echo "{\\"step\\":\\"torch\\",\\"script\\":\\"$1\\"}"');
  expect(linesOf(gpuRun().lines, 'torch')[0].script).toMatch(/torch_sdpa\.py$/);
  expect(linesOf(gpuRun(['--rehearse']).lines, 'torch')[0].note).toContain('rehearsal');
});

test('a folder that is no bundle is refused', () => {
  const { status, stderr } = gpuRun([join(dir, 'tools')]);
  expect(status).toBe(66);
  expect(stderr).toContain('scripts/gpu/bundle.mjs');
});
