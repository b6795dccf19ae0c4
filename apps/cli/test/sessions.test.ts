/** `ctkvr sessions` over a store that was filled by hand: no model is needed but to import. */
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapshotStore } from '@ctkvr/model-runner';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ctkvrInProcess } from './run-in-process.js';
import { temporaryFolder } from './temporary-folder.js';

let cache = '';
let store: SnapshotStore;
const before = process.env.CTKVR_CACHE_DIR;
beforeEach(async () => {
  cache = await temporaryFolder();
  process.env.CTKVR_CACHE_DIR = cache;
  store = new SnapshotStore({ folder: join(cache, 'sessions') });
});
afterEach(() => {
  if (before === undefined) delete process.env.CTKVR_CACHE_DIR;
  else process.env.CTKVR_CACHE_DIR = before;
});

const keys = ['aaaa1', 'aaaa2', 'b'];
/** Three, the last of which was used last. */
async function fill(): Promise<void> {
  for (const [i, key] of keys.entries()) {
    const about = { name: `text ${i}`, modelName: 'a model', numTokens: 1000 * (i + 1) };
    await store.save(key, about, async (path) => {
      await writeFile(path, key.repeat(500));
      return { bytes: 500 * key.length };
    });
    const at = Date.UTC(2026, 0, 1 + i, 12) / 1000;
    await utimes(join(store.folder, `${key}.ctkvr`), at, at);
  }
}

it('lists what is kept, the most recently used first, and makes no folder', async () => {
  expect(await ctkvrInProcess(['sessions'])).toEqual({ code: 0, stdout: '', stderr: '' });
  expect((await ctkvrInProcess(['sessions', 'list', '--json'])).stdout).toBe('[]\n');
  expect(await readdir(cache)).toEqual([]);
  await fill();
  expect((await ctkvrInProcess(['sessions'])).stdout.split('\n')).toEqual([
    'key    name    model    tokens     size  used (UTC)',
    'b      text 2  a model   3,000    500 B  2026-01-03 12:00',
    'aaaa2  text 1  a model   2,000  2.4 KiB  2026-01-02 12:00',
    'aaaa1  text 0  a model   1,000  2.4 KiB  2026-01-01 12:00',
    '',
  ]);
  const { stdout } = await ctkvrInProcess(['sessions', '--json']);
  expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(await store.list())));
});

it('renames, exports and deletes what the beginning of a key names', async () => {
  await fill();
  const file = join(cache, 'exported');
  for (const args of [
    ['rename', 'aaaa1', 'another name'],
    ['export', 'aaaa2', file],
    ['delete', 'b', 'aaaa2'],
  ]) {
    expect(await ctkvrInProcess(['sessions', ...args])).toEqual({ code: 0, stdout: '', stderr: '' });
  }
  expect((await store.list()).map(({ key, name }) => [key, name])).toEqual([['aaaa1', 'another name']]);
  expect(await readFile(file, 'utf8')).toBe('aaaa2'.repeat(500));
});

it.each([
  [['delete', 'b', 'c'], 3, /no session has the key c/],
  [['rename', 'aaaa', 'x'], 2, /keys of 2 sessions begin with aaaa/],
  [['rename', 'b', 'a\nb'], 2, /name must be/],
  [['export', '../b', 'x'], 3, /no session has the key/],
  [['export', 'b', '/no/such/folder/file'], 1, /\/no\/such\/folder\/file could not be written/],
  [['remove', 'b'], 2, /unknown command|too many arguments/],
  [['delete'], 2, /missing required argument/],
])('%j is refused, and nothing changes', async (args, status, message) => {
  await fill();
  const { code, stdout, stderr } = await ctkvrInProcess(['sessions', ...args]);
  expect(stderr).toMatch(message);
  expect({ code, stdout }).toEqual({ code: status, stdout: '' });
  expect((await store.list()).map(({ key, name }) => [key, name])).toEqual([
    ['b', 'text 2'],
    ['aaaa2', 'text 1'],
    ['aaaa1', 'text 0'],
  ]);
});

it('what is there already is not replaced by an export', async () => {
  await fill();
  await mkdir(join(cache, 'out'));
  const file = join(cache, 'out', 'mine');
  await writeFile(file, 'mine');
  const { code, stderr } = await ctkvrInProcess(['sessions', 'export', 'b', file]);
  expect(stderr).toMatch(/exists already/);
  expect([code, await readFile(file, 'utf8')]).toEqual([1, 'mine']);
});
