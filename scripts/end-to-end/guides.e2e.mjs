// The commands and programs of docs/guide, run as they stand there: every sh or js block behind a line `<!-- test -->`. Blocks behind
// `<!-- test: server -->` run beside a server of `ctkvr serve`, whose address takes the place of the page's.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { root } from '../lib/paths.mjs';

const PAGE_ADDRESS = 'http://127.0.0.1:8080';
const TIMEOUT_MS = 300_000;
const pages = join(root, 'docs/guide');
const dir = mkdtempSync(join(tmpdir(), 'ctkvr-guides-'));
/** In a checkout's folder `npm run` finds its package.json; the pages' own files lie in the test's folder. */
const npmOfCheckout = `npm() { command npm --prefix '${root}' "$@"; }\nset -euo pipefail\n`;

/** @type {import('node:child_process').ChildProcess | undefined} */
let server;
let address = '';

before(async () => {
  const sentence =
    'Whales are mammals. They live in the sea, breathe air, and sing to one another over great distances.\n';
  // Programs find the packages as in the folder where a reader is told to save them, and leave nothing there.
  symlinkSync(join(root, 'examples/node_modules'), join(dir, 'node_modules'));
  writeFileSync(join(dir, 'your.txt'), sentence.repeat(40));
  writeFileSync(join(dir, 'other.txt'), 'Bats are mammals. They live in caves and find their way by sound.\n');
  address = await startServer();
});
after(async () => {
  if (server !== undefined && server.exitCode === null) {
    const ended = new Promise((resolve) => server?.once('exit', resolve));
    server.kill('SIGTERM');
    await ended;
  }
  rmSync(dir, { recursive: true });
});

const blocks = readdirSync(pages)
  .filter((name) => name.endsWith('.md'))
  .flatMap((page) => testedBlocks(page));

test('the guides have tested blocks of every kind', () => {
  for (const kind of ['sh', 'js']) assert.ok(blocks.some((block) => block.language === kind));
  assert.ok(blocks.some((block) => block.besideServer));
});

for (const { page, code, language, besideServer } of blocks) {
  test(`${page}: ${code
    .trim()
    .split('\n')
    .at(language === 'js' ? -1 : 0)}`, () => {
    const { status, stdout, stderr } =
      language === 'sh' ? runShell(besideServer ? code.replaceAll(PAGE_ADDRESS, address) : code) : runProgram(code);
    assert.equal(status, 0, stderr);
    assert.notEqual(stdout.trim(), '', 'nothing was printed');
    if (besideServer) assert.doesNotMatch(stdout, /"error"/);
  });
}

/** @param {string} page */
function testedBlocks(page) {
  const text = readFileSync(join(pages, page), 'utf8');
  const marked = /^<!-- test(: server)? -->\n```(sh|js)\n([\s\S]*?)^```$/gm;
  const found = [...text.matchAll(marked)].map(([, beside, language = '', code = '']) => ({
    page,
    code,
    language,
    besideServer: beside !== undefined,
  }));
  assert.equal(found.length, text.split('<!-- test').length - 1, `${page} has a mark without a block of sh or js`);
  return found;
}

/** @param {string} code */
function runShell(code) {
  return spawnSync('bash', ['-c', npmOfCheckout + code], { cwd: dir, encoding: 'utf8', timeout: TIMEOUT_MS });
}

/** From standard input. @param {string} code */
function runProgram(code) {
  return spawnSync(process.execPath, ['--input-type=module', '-', join(dir, 'your.txt')], {
    cwd: dir,
    input: code,
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
}

/** @returns {Promise<string>} the address that the server says it listens at */
function startServer() {
  const bin = join(root, 'apps/cli/dist/bin.js');
  const store = join(dir, 'sessions'); // not the user's
  const child = spawn(process.execPath, [bin, 'serve', '--port', '0', '--session-store', store], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  server = child;
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (chunk) => {
      said += chunk;
      const found = /http:\/\/[\d.]+:\d+/.exec(said)?.[0];
      if (found !== undefined) resolve(found);
    });
    child.once('exit', () => reject(new Error(`the server ended: ${said}`)));
  });
}
