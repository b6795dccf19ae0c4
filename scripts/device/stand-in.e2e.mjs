// The built command line on the device's executor, from Node.js through cudarc to the stand-in driver, which `npm run test:gpu` has built before.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { root, rustDir } from '../lib/paths.mjs';

const TEXT = 'The lighthouse keeper Maria painted the tower red in 1907. The cat was called Ponto.';
const dir = mkdtempSync(join(tmpdir(), 'ctkvr-device-'));
after(() => rmSync(dir, { recursive: true }));
const file = join(dir, 'lighthouse.txt');
writeFileSync(file, TEXT);

/** The stand-in that was built last. */
function driver() {
  const built = join(rustDir, 'target/release/build');
  const libraries = readdirSync(built)
    .filter((name) => name.startsWith('ctkvr-cuda-'))
    .map((name) => join(built, name, 'out/plain/libcuda.so'))
    .filter((path) => existsSync(path))
    .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs);
  const newest = libraries.at(-1);
  assert.ok(newest, `no stand-in driver below ${built}: run \`npm run test:gpu -- cargo-cuda\` before`);
  return newest;
}

/** @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function ctkvr(args, env = {}) {
  const options = { encoding: /** @type {const} */ ('utf8'), timeout: 600_000 };
  return spawnSync(process.execPath, [join(root, 'apps/cli/dist/bin.js'), ...args], {
    ...options,
    env: { ...process.env, CTKVR_CUDA_DRIVER: driver(), ...env },
  });
}

const model = process.env.CTKVR_TEST_MODEL ?? '';
const ask = ['ask', file, 'What was the cat called?', '--model', model, '--max-tokens', '12', '--temperature', '0'];

test('doctor lists the device', () => {
  const { status, stdout } = ctkvr(['doctor']);
  assert.equal(status, 0);
  assert.match(stdout, /cuda:0: CTKvr stand-in/);
});

test('an answer on the device is that of the CPU, wherever keys and values are', () => {
  const places = [['cpu'], ['cuda'], ['cuda', '--hybrid-layers', '10'], ['cuda', '--hybrid-layers', 'all']];
  const [cpu, ...devices] = places.map((place) => ctkvr([...ask, '--device', ...place]));
  assert.match(cpu?.stdout ?? '', /Ponto/);
  for (const device of devices) {
    assert.equal(device.status, 0, device.stderr);
    assert.equal(device.stdout, cpu?.stdout);
  }
});

test('a device that is lost in mid-answer ends the command with its code', () => {
  const { status, stderr } = ctkvr([...ask, '--device', 'cuda'], { CTKVR_STAND_IN: 'lose_at_launch=2000' });
  assert.equal(status, 1);
  assert.match(stderr, /device is lost/);
});
