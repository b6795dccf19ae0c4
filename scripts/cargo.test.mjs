// scripts/cargo with a stand-in for cargo that writes down how it was called.
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
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { root } from './lib/paths.mjs';

let dir = '';
let calls = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-cargo-'));
  calls = join(dir, 'calls');
  for (const folder of ['scripts', 'rust-kernels', 'bin']) mkdirSync(join(dir, folder));
  for (const name of ['cargo', 'cpu-id']) copyFileSync(join(root, 'scripts', name), join(dir, 'scripts', name));
  const standIn = join(dir, 'bin/cargo');
  writeFileSync(
    standIn,
    `#!/bin/sh\necho "$* CFLAGS=$CFLAGS LIBCLANG_PATH=$LIBCLANG_PATH RUSTFLAGS=$RUSTFLAGS." >>"${calls}"\n`,
  );
  chmodSync(standIn, 0o755);
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Runs scripts/cargo and returns the lines of the calls it made. @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function cargo(args, env = {}) {
  rmSync(calls, { force: true });
  const { CFLAGS, CXXFLAGS, RUSTFLAGS, CARGO_TARGET_DIR, LIBCLANG_PATH, ...rest } = process.env;
  const { status, stderr } = spawnSync(join(dir, 'scripts/cargo'), args, {
    encoding: 'utf8',
    env: { ...rest, PATH: `${join(dir, 'bin')}:${process.env.PATH}`, ...env },
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return readFileSync(calls, 'utf8').trimEnd().split('\n');
}

test('the arguments arrive, and a build for the same CPU cleans nothing', () => {
  expect(cargo(['build', '--release'])).toHaveLength(1);
  expect(cargo(['build', '--release'])).toEqual([expect.stringMatching(/^build --release CFLAGS=/)]);
});

test('ggml is cleaned, in both profiles, when the CPU is another one than at the last build', () => {
  cargo(['build']);
  writeFileSync(join(dir, 'rust-kernels/target/.ctkvr-cpu'), 'another machine\n');
  const lines = cargo(['build']);
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatch(/^clean --quiet -p llama-cpp-sys-2 /);
  expect(lines[1]).toMatch(/^clean --quiet --release -p llama-cpp-sys-2 /);
  expect(lines[2]).toMatch(/^build /);
  expect(cargo(['build'])).toHaveLength(1);
});

test('the stamp lies in the target folder that cargo uses', () => {
  const target = join(dir, 'elsewhere');
  cargo(['build'], { CARGO_TARGET_DIR: target });
  expect(existsSync(join(target, '.ctkvr-cpu'))).toBe(true);
});

test.runIf(arch() === 'x64')(
  "C flags: this machine by default, the caller's when given, none for the shipped build; never ggml's AMX",
  () => {
    const withoutAmx = '-U__AMX_TILE__ -U__AMX_INT8__ -U__AMX_BF16__ ';
    expect(cargo(['build'])[0]).toContain(`CFLAGS=-march=native ${withoutAmx}`);
    expect(cargo(['build'], { CFLAGS: '-O1' })[0]).toContain(`CFLAGS=-O1 ${withoutAmx}`);
    expect(cargo(['build'], { CFLAGS: '' })[0]).toContain(`CFLAGS= ${withoutAmx}`);
    expect(cargo(['build', '--features', 'dynamic-backends'])[0]).toContain(`CFLAGS= ${withoutAmx}`);
  },
);

test('libraries keep their bitcode for link-time optimization, whatever else the caller asks of rustc', () => {
  expect(cargo(['build'])[0]).toContain('RUSTFLAGS=-Cembed-bitcode=yes.');
  expect(cargo(['build'], { RUSTFLAGS: '' })[0]).toContain('RUSTFLAGS=-Cembed-bitcode=yes.');
  expect(cargo(['build'], { RUSTFLAGS: '--cfg loom' })[0]).toContain('RUSTFLAGS=-Cembed-bitcode=yes --cfg loom.');
});

test('places of fetched tools are read from .tools/native-env.sh', () => {
  mkdirSync(join(dir, '.tools'));
  writeFileSync(join(dir, '.tools/native-env.sh'), "export LIBCLANG_PATH='/somewhere/clang'\n");
  expect(cargo(['build'])[0]).toContain('LIBCLANG_PATH=/somewhere/clang');
});
