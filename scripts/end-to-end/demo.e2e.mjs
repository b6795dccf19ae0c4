// The main job on the real model and text: a fact hidden in 7,000 tokens is found dense and by retrieval, and not by the window alone.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../lib/paths.mjs';

test('the demo finds the hidden number dense and with CTkvr, and not without retrieval', () => {
  const bin = join(root, 'apps/cli/dist/bin.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, 'demo', '--seed', '1', '--json'], {
    encoding: 'utf8',
    timeout: 900_000,
  });
  assert.equal(status, 0, stderr);
  const { tokens, number, answers } = JSON.parse(stdout);
  assert.ok(tokens > 6500, `${tokens} tokens`);
  const [dense, ctkvr, windowOnly] = answers;
  assert.ok(dense.text.includes(String(number)), dense.text);
  assert.ok(ctkvr.text.includes(String(number)), ctkvr.text);
  assert.ok(!windowOnly.text.includes(String(number)), windowOnly.text);
  // Retrieval reads a part of the keys, and stays near to what dense attention says.
  assert.ok(ctkvr.statistics.keysReadPerHead < 0.6 * ctkvr.statistics.keysPerHead, JSON.stringify(ctkvr.statistics));
  assert.ok(ctkvr.measure.meanKl < windowOnly.measure.meanKl, JSON.stringify(ctkvr.measure));
});
