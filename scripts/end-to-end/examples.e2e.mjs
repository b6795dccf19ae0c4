// The programs of examples/, run in place as a reader runs them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../lib/paths.mjs';

const programs = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.mjs') && name !== 'try.mjs');

test('there are examples', () => {
  assert.notEqual(programs.length, 0);
});

for (const name of programs) {
  test(`examples/${name}`, () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join('examples', name)], {
      cwd: root,
      encoding: 'utf8',
      timeout: 300_000,
    });
    assert.equal(status, 0, stderr);
    assert.notEqual(stdout.trim(), '', 'nothing was printed');
  });
}
