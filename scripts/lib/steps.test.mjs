import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digest, exists } from './digest.mjs';
import { ensure } from './steps.mjs';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-steps-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A step that copies `input` into `output`, and counts its runs. */
function copyStep() {
  const input = join(dir, 'input');
  const output = join(dir, 'output');
  const step = {
    runs: 0,
    stamp: join(dir, 'stamps/copy'),
    digest: () => digest({ files: [input] }),
    isPresent: () => exists(output),
    async run() {
      step.runs += 1;
      writeFileSync(output, '');
    },
  };
  writeFileSync(input, 'one');
  return { step, input, output };
}

test('a step runs once while its input stays the same', async () => {
  const { step } = copyStep();
  await ensure(step);
  await ensure(step);
  expect(step.runs).toBe(1);
});

test('a step runs again when its input changed', async () => {
  const { step, input } = copyStep();
  await ensure(step);
  writeFileSync(input, 'two');
  await ensure(step);
  expect(step.runs).toBe(2);
});

test('a step runs again when its result is gone', async () => {
  const { step, output } = copyStep();
  await ensure(step);
  rmSync(output);
  await ensure(step);
  expect(step.runs).toBe(2);
});

test('a step runs again when its input was edited while it ran', async () => {
  const { step, input } = copyStep();
  const edited = {
    ...step,
    async run() {
      await step.run();
      writeFileSync(input, 'edited meanwhile');
    },
  };
  await ensure(edited);
  await ensure(step);
  expect(step.runs).toBe(2);
});

test('a step that failed is not done, even if it was before', async () => {
  const { step, input } = copyStep();
  await ensure(step);
  writeFileSync(input, 'two');
  await expect(ensure({ ...step, run: () => Promise.reject(new Error('broken')) })).rejects.toThrow('broken');
  writeFileSync(input, 'one');
  await ensure(step);
  expect(step.runs).toBe(2);
});

test('a missing file and an empty file have different digests', () => {
  const file = join(dir, 'file');
  const absent = digest({ files: [file] });
  writeFileSync(file, '');
  expect(digest({ files: [file] })).not.toBe(absent);
});
