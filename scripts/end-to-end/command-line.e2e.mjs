// The built command line as a user meets it: through `npm run -s ctkvr`, with exit codes, relative paths and bad input.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { root } from '../lib/paths.mjs';

const model = process.env.CTKVR_TEST_MODEL ?? '';
const dir = mkdtempSync(join(tmpdir(), 'ctkvr-end-to-end-'));
after(() => rmSync(dir, { recursive: true }));

/** @param {string[]} args @param {{ cwd?: string, input?: string }} [options] */
function ctkvr(args, { cwd = dir, input = '' } = {}) {
  const run = ['--prefix', root, 'run', '-s', 'ctkvr', '--', ...args];
  return spawnSync('npm', run, {
    cwd,
    input,
    encoding: 'utf8',
    env: { ...process.env, INIT_CWD: cwd },
    timeout: 300_000,
  });
}

/** A failure must name the thing on stderr, without a stack trace, and print nothing on stdout. @param {ReturnType<typeof ctkvr>} result */
function assertRefused(result, /** @type {RegExp} */ names) {
  assert.notEqual(result.status, 0);
  assert.equal(result.stdout, '');
  assert.match(result.stderr, names);
  assert.doesNotMatch(result.stderr, /^\s+at /m);
}

test('--help names every command, on stdout', () => {
  const { status, stdout } = ctkvr(['--help']);
  assert.equal(status, 0);
  for (const name of ['ask', 'chat', 'serve', 'pull', 'models', 'inspect', 'fidelity'])
    assert.match(stdout, new RegExp(`\\b${name}\\b`));
});

test('a wrong option is a usage error, exit code 2', () => {
  const result = ctkvr(['ask', '--no-such-option']);
  assert.equal(result.status, 2);
  assertRefused(result, /no-such-option/);
});

test('inspect reads a file named relative to the caller, and stdout is JSON alone', () => {
  const { status, stdout, stderr } = ctkvr(['inspect', basename(model), '--json'], { cwd: dirname(model) });
  assert.equal(status, 0, stderr);
  assert.equal(JSON.parse(stdout).architecture, 'llama');
});

test('a model file that is missing, empty, cut off or no GGUF is refused by name', () => {
  const cases = {
    'empty.gguf': '',
    'cut.gguf': 'GGUF\u0003\u0000\u0000\u0000',
    'text.gguf': 'not a model at all, only a text',
  };
  for (const [name, content] of Object.entries(cases)) {
    writeFileSync(join(dir, name), content);
    assertRefused(ctkvr(['inspect', name]), new RegExp(name.replace('.', '\\.')));
  }
  assertRefused(ctkvr(['inspect', 'missing.gguf']), /missing\.gguf/);
});

test('ask answers on stdout from a document on stdin', () => {
  const document = 'The ferry to the island leaves from pier 7 every morning. Bring a coat.\n';
  const args = [
    'ask',
    '-',
    'From which pier does the ferry leave?',
    '--no-store',
    '--model',
    model,
    '--max-tokens',
    '24',
    '--temperature',
    '0',
  ];
  const { status, stdout, stderr } = ctkvr(args, { input: document });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /7/);
});

test('ask refuses a binary file as a text', () => {
  writeFileSync(join(dir, 'picture.png'), Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0, 0, 1]));
  assertRefused(ctkvr(['ask', 'picture.png', 'What is this?', '--model', model]), /picture\.png/);
});

test('a device that is not there is refused with what is missing', () => {
  const result = ctkvr(['ask', '--model', model, '--device', 'cuda:7', 'package.json', 'Why?'], { cwd: root });
  assertRefused(result, /CUDA (driver|device)/);
  assert.equal(result.status, 3);
});
