import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NativeRestoredSequence, NativeSequence } from '@ctkvr/native';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KeptPrompt } from './kept-prompt.js';
import { SnapshotStore } from './snapshot-store/snapshot-store.js';
import { StoredPrompts } from './stored-prompts.js';

let folder: string;
let failures: unknown[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ctkvr-prompts-'));
  failures = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const prompt = (first: number, length = 300) => Int32Array.from({ length }, (_, i) => (i === 0 ? first : i));

interface Fake extends NativeSequence {
  readonly isClosed: () => boolean;
}

function fake(length: number): Fake {
  let isClosed = false;
  const close = () => {
    isClosed = true;
  };
  return { length, close, isClosed: () => isClosed } as unknown as Fake;
}

function kept(length = 300) {
  const native = fake(length);
  return { native, value: new KeptPrompt({ native, indexedAt: 256, queriesFrom: length - 20 }) };
}

/** Files hold a length and the notes. */
function open({ modelName = 'model', gate = Promise.resolve(), maxBytes = 1e6 } = {}): StoredPrompts {
  return new StoredPrompts({
    store: new SnapshotStore({ folder, maxBytes }),
    modelName,
    write: async ({ native }, path, notes) => {
      await gate;
      const content = JSON.stringify({ length: native.length, notes });
      await writeFile(path, content);
      return { bytes: content.length };
    },
    restore: async (path) => {
      const { length, notes } = JSON.parse(readFileSync(path, 'utf8'));
      return { sequence: fake(length), notes } as unknown as NativeRestoredSequence;
    },
    onFailed: (error) => failures.push(error),
  });
}

async function stored(prompts: StoredPrompts, namespace: string, ids: Int32Array) {
  const { native, value } = kept(ids.length);
  prompts.take({ namespace, ids, value });
  await prompts.idle();
  return native;
}

it('finds what was taken, as far as it is the same, also later and in another process', async () => {
  const first = open();
  expect((await stored(first, 'a', prompt(1))).isClosed()).toBe(true);
  for (const prompts of [first, open()]) {
    const turnsOff = Int32Array.from([...prompt(1).subarray(0, 280), 9, 9, 9]);
    const found = await prompts.open('a', turnsOff, 0);
    expect(found).toMatchObject({ length: 280, value: { indexedAt: 256, queriesFrom: 280 } });
    expect(found!.value.native.length).toBe(300);
    expect(await prompts.open('a', turnsOff, 100)).toBeNull(); // memory has nearly as much
    expect(await prompts.open('b', turnsOff, 0)).toBeNull();
  }
  expect(await open({ modelName: 'another' }).open('a', prompt(1), 0)).toBeNull();
  expect(failures).toEqual([]);
});

it('keeps the longer of two prompts that begin alike', async () => {
  const prompts = open();
  for (const length of [300, 400, 350]) await stored(prompts, '', prompt(1, length));
  await stored(prompts, '', prompt(2, 255)); // too short
  expect((await prompts.open('', prompt(1, 500), 0))?.length).toBe(400);
  expect(readdirSync(folder).filter((name) => name.endsWith('.ctkvr'))).toHaveLength(1);
});

it('drops what comes while two are being written, but not at the end', async () => {
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const prompts = open({ gate });
  const left = [1, 2, 3, 4].map((first) => ({ first, ...kept() }));
  for (const { first, value } of left) {
    if (first === 4) prompts.startEnding();
    prompts.take({ namespace: '', ids: prompt(first), value });
  }
  expect(left.map(({ native }) => native.isClosed())).toEqual([false, false, true, false]);
  go();
  await prompts.idle();
  expect(left.every(({ native }) => native.isClosed())).toBe(true);
  const found = await Promise.all([1, 2, 3, 4].map((first) => prompts.open('', prompt(first), 0)));
  expect(found.map((one) => one !== null)).toEqual([true, true, false, true]);
});

it('forgets what is gone, and tells of what is wrong', async () => {
  const prompts = open();
  await stored(prompts, '', prompt(1));
  await stored(prompts, '', prompt(2));
  const [gone, wrong] = readdirSync(folder).filter((name) => name.endsWith('.ctkvr'));
  rmSync(join(folder, gone!));
  writeFileSync(join(folder, wrong!), JSON.stringify({ length: 7, notes: '{"indexedAt":null,"queriesFrom":0}' }));
  expect(await Promise.all([1, 2].map((first) => prompts.open('', prompt(first), 0)))).toEqual([null, null]);
  expect(failures).toHaveLength(1);
  expect(String(failures[0])).toContain('has 7 tokens, expected 300');
  const later = new StoredPrompts({
    store: new SnapshotStore({ folder, maxBytes: 10 }),
    modelName: 'model',
    write: async () => ({ bytes: 11 }),
    restore: () => Promise.reject(new Error('never')),
    onFailed: (error) => failures.push(error),
  });
  await stored(later, '', prompt(3));
  expect(failures.at(-1)).toMatchObject({ code: 'CTKVR_DISK_FULL' });
});
