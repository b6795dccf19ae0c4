import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { withLock } from './lock.mjs';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-lock-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

test('two holders never overlap, and nothing is left behind', async () => {
  const path = join(dir, 'lock');
  let holders = 0;
  let most = 0;
  const hold = () =>
    withLock(path, async () => {
      holders += 1;
      most = Math.max(most, holders);
      await delay(20);
      holders -= 1;
    });
  await Promise.all([hold(), hold(), hold()]);
  expect(most).toBe(1);
  expect(existsSync(path)).toBe(false);
});

test('a lock whose owner has ended is taken over', async () => {
  const path = join(dir, 'lock');
  const ended = spawnSync(process.execPath, ['-e', '']).pid;
  mkdirSync(path);
  writeFileSync(join(path, 'pid'), String(ended));
  await expect(withLock(path, async () => 'held')).resolves.toBe('held');
});

test('the lock is released when the work fails', async () => {
  const path = join(dir, 'lock');
  await expect(withLock(path, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  expect(existsSync(path)).toBe(false);
});
