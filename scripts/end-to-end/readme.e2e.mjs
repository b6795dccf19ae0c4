// The README's program, run as it stands there.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../lib/paths.mjs';

test("the README's program answers", () => {
  const program = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? '';
  assert.match(program, /loadModel/);
  const dir = mkdtempSync(join(tmpdir(), 'ctkvr-readme-'));
  const document = join(dir, 'document.txt');
  writeFileSync(
    document,
    'Whales are mammals. They live in the sea, breathe air, and sing to one another over great distances.\n',
  );
  // From standard input, with the folder of a package that depends on the model runner: no file is left in the checkout.
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-', document], {
    cwd: join(root, 'apps/cli'),
    input: program,
    encoding: 'utf8',
    timeout: 300_000,
  });
  rmSync(dir, { recursive: true });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /whale|mammal|sea/i);
  assert.match(stdout, /\n(stop|length)\n$/);
});
