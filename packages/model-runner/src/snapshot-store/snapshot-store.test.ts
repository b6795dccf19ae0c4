/** The store over files that are no snapshots: what it keeps, finds, removes and puts aside. */
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type QuarantinedSnapshot, SnapshotStore } from './index.js';

let root = '';
let folder = '';
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ctkvr-store-'));
  folder = join(root, 'store');
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

const about = (name: string) => ({ name, modelName: 'a model', numTokens: 7 });
const writing = (content: string) => async (path: string) => {
  await writeFile(path, content);
  return { bytes: content.length };
};
const reading = (path: string) => readFile(path, 'utf8');
const names = async () => (await readdir(folder)).sort();
const keysOf = async (store: SnapshotStore) => (await store.list()).map(({ key }) => key);
/** Makes a snapshot's last use lie `seconds` back. */
async function age(key: string, seconds: number): Promise<void> {
  const at = Date.now() / 1000 - seconds;
  await utimes(join(folder, `${key}.ctkvr`), at, at);
}
const badSnapshot = (field: string) => new CtkvrError('CTKVR_BAD_SNAPSHOT', `bad ${field}`, { fields: { field } });
const rejecting = (error: unknown) => () => Promise.reject(error);

describe('keeps and finds', () => {
  it('what was saved, in another store of the folder too, and says what it is', async () => {
    const store = new SnapshotStore({ folder });
    expect([await store.list(), await store.open('a', reading)]).toEqual([[], null]);
    const before = Date.now();
    await store.save('a', about('first'), writing('12345'));
    const other = new SnapshotStore({ folder });
    expect(await other.open('a', reading)).toBe('12345');
    const [found, ...more] = await other.list();
    expect([await other.find('a'), await other.find('b'), await other.keys()]).toEqual([found, null, ['a']]);
    expect(found).toMatchObject({ key: 'a', bytes: 5, ...about('first') });
    expect(found!.savedAt).toBeGreaterThanOrEqual(before);
    expect(more).toEqual([]);
    await store.save('a', about('second'), writing('12'));
    expect(await store.open('a', reading)).toBe('12');
    expect(await names()).toEqual(['a.ctkvr', 'a.json']);
  });

  it('lists the most recently used first; to open one is to use it', async () => {
    const store = new SnapshotStore({ folder });
    for (const key of ['a', 'b', 'c']) await store.save(key, about(key), writing(key));
    await age('a', 30);
    await age('b', 20);
    await age('c', 10);
    expect(await keysOf(store)).toEqual(['c', 'b', 'a']);
    await store.open('b', reading);
    expect(await keysOf(store)).toEqual(['b', 'c', 'a']);
  });

  it('renames and removes', async () => {
    const store = new SnapshotStore({ folder });
    await store.save('a', about('first'), writing('1'));
    const [saved] = await store.list();
    await store.rename('a', '../other');
    expect(await store.list()).toEqual([{ ...saved, name: '../other' }]);
    expect([await store.remove('a'), await store.remove('a')]).toEqual([true, false]);
    expect(await names()).toEqual([]);
    await expect(store.rename('a', 'x')).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND', fields: { key: 'a' } });
  });

  it('exports to a new file, and imports what was exported', async () => {
    const store = new SnapshotStore({ folder });
    await store.save('a', about('first'), writing('content'));
    const file = join(root, 'exported');
    await store.exportTo('a', file);
    await expect(store.exportTo('a', file)).rejects.toMatchObject({
      code: 'CTKVR_OUTPUT_FAILED',
      fields: { path: file },
    });
    await expect(store.exportTo('none', join(root, 'x'))).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND' });
    await store.importFrom(file, { key: 'b', ...about('imported') });
    expect(await store.open('b', reading)).toBe('content');
    const missing = store.importFrom(join(root, 'none'), { key: 'c', ...about('c') });
    await expect(missing).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND', fields: { path: join(root, 'none') } });
    expect(await keysOf(store)).toEqual(['b', 'a']);
  });

  it('a snapshot whose description is lost or spoilt', async () => {
    const store = new SnapshotStore({ folder });
    for (const key of ['lost', 'spoilt']) await store.save(key, about(key), writing('1'));
    await rm(join(folder, 'lost.json'));
    await writeFile(join(folder, 'spoilt.json'), '{"version":1,"name":7}');
    for (const found of await store.list())
      expect(found).toMatchObject({ name: found.key, modelName: '', numTokens: 0 });
    await store.rename('lost', 'found');
    expect((await store.list()).find(({ key }) => key === 'lost')?.name).toBe('found');
  });
});

describe('is limited', () => {
  it('the least recently used leave, damaged ones before them, the newest never', async () => {
    const store = new SnapshotStore({ folder, maxBytes: 10 });
    for (const [i, key] of ['a', 'b', 'c'].entries()) {
      await store.save(key, about(key), writing('123'));
      await age(key, 30 - 10 * i);
    }
    await store.open('a', reading);
    await store.save('d', about('d'), writing('1234'));
    expect((await keysOf(store)).sort()).toEqual(['a', 'c', 'd']);
    await store.open('c', rejecting(badSnapshot('checksum')));
    await store.save('e', about('e'), writing('12'));
    expect((await keysOf(store)).sort()).toEqual(['a', 'd', 'e']);
    expect(await readdir(join(folder, 'quarantine'))).toEqual([]);
    await store.save('f', about('f'), writing('1234567890'));
    expect(await names()).toEqual(['f.ctkvr', 'f.json', 'quarantine']);
  });

  it('one that is too large alone is refused, and nothing else leaves', async () => {
    const store = new SnapshotStore({ folder, maxBytes: 10 });
    for (const key of ['a', 'b']) await store.save(key, about(key), writing('12345'));
    await expect(store.save('a', about('new'), writing('12345678901'))).rejects.toMatchObject({
      code: 'CTKVR_DISK_FULL',
      fields: { key: 'a', expected: 10, actual: 11 },
    });
    expect((await store.list()).map(({ key, name, bytes }) => [key, name, bytes]).sort()).toEqual([
      ['a', 'a', 5],
      ['b', 'b', 5],
    ]);
    expect(await names()).toEqual(['a.ctkvr', 'a.json', 'b.ctkvr', 'b.json']);
  });
});

describe('puts aside', () => {
  it('what is damaged, once', async () => {
    const told: QuarantinedSnapshot[] = [];
    const store = new SnapshotStore({ folder, onQuarantine: (damaged) => told.push(damaged) });
    await store.save('a', about('a'), writing('damaged'));
    const error = badSnapshot('checksum');
    const opened = [1, 2].map(() => store.open('a', rejecting(error)));
    expect(await Promise.all(opened)).toEqual([null, null]);
    expect(told).toEqual([{ key: 'a', path: expect.stringContaining(join(folder, 'quarantine', 'a.')), error }]);
    expect(await readFile(told[0]!.path, 'utf8')).toBe('damaged');
    expect([await store.list(), await store.open('a', reading)]).toEqual([[], null]);
    await store.save('a', about('a'), writing('whole'));
    expect(await store.open('a', reading)).toBe('whole');
  });

  it('not what another process has saved meanwhile', async () => {
    const store = new SnapshotStore({ folder });
    await store.save('a', about('a'), writing('damaged'));
    const replacing = async () => {
      await store.save('a', about('a'), writing('whole'));
      throw badSnapshot('checksum');
    };
    expect(await store.open('a', replacing)).toBeNull();
    expect(await store.open('a', reading)).toBe('whole');
  });

  it.each(['model', 'settings', 'notes', 'chatTemplate', 'denseBelow'])(
    'not what is of another %s: that is an error',
    async (field) => {
      const store = new SnapshotStore({ folder });
      await store.save('a', about('a'), writing('whole'));
      await expect(store.open('a', rejecting(badSnapshot(field)))).rejects.toMatchObject({ fields: { field } });
      await expect(store.open('a', rejecting(new CtkvrError('CTKVR_OUT_OF_MEMORY', '')))).rejects.toMatchObject({
        code: 'CTKVR_OUT_OF_MEMORY',
      });
      expect(await store.open('a', reading)).toBe('whole');
    },
  );
});

describe('puts up with', () => {
  it('a snapshot that another process removes while it is opened', async () => {
    const store = new SnapshotStore({ folder });
    await store.save('a', about('a'), writing('1'));
    const vanishing = async () => {
      await store.remove('a');
      throw new CtkvrError('CTKVR_FILE_NOT_FOUND', 'gone');
    };
    expect(await store.open('a', vanishing)).toBeNull();
  });

  it('many saves, uses and removals at once, from two stores: what is found is whole', async () => {
    const stores = [0, 1].map(() => new SnapshotStore({ folder, maxBytes: 4_000 }));
    const found = new Set<string | null>();
    for (let i = 0; i < 4; i++) await stores[0]!.save(`k${i}`, about('first'), writing(String(i).repeat(1000)));
    const work = Array.from({ length: 120 }, async (_, i) => {
      const [store, key] = [stores[i % 2]!, `k${i % 5}`];
      if (i % 3 === 0) await store.save(key, about(key), writing(String(i % 10).repeat(1000)));
      else if (i % 7 === 0) await store.remove(key);
      else found.add(await store.open(key, reading).catch((error) => error.code));
      await store.list();
    });
    await Promise.all(work);
    found.delete(null);
    found.delete('ENOENT'); // thrown by this test's `reading`
    expect(found.size).toBeGreaterThan(0);
    for (const text of found) expect(text).toMatch(/^(\d)\1{999}$/);
    expect((await names()).filter((name) => name.includes('saving'))).toEqual([]);
    const held = (await stores[0]!.list()).reduce((sum, { bytes }) => sum + bytes, 0);
    expect(held).toBeLessThanOrEqual(4_000);
  });

  it('what killed saves left: removed after an hour, by the next save', async () => {
    const store = new SnapshotStore({ folder });
    await store.save('a', about('a'), writing('1'));
    const description = await readFile(join(folder, 'a.json'));
    const remains = [
      ...['a.ctkvr.0123.saving', 'a.ctkvr.0123.saving.partial-0123456789abcdef', 'a.json.0123.saving'],
      'killed-before-its-snapshot.json',
    ];
    const notOurs = ['notes.txt', 'other.json'];
    const underWay = ['b.ctkvr.0123.saving', 'b.json'];
    for (const name of [...remains, ...notOurs, ...underWay]) {
      await writeFile(join(folder, name), name.endsWith('.json') && name !== 'other.json' ? description : '');
      const at = Date.now() / 1000 - (underWay.includes(name) ? 60 : 3601);
      await utimes(join(folder, name), at, at);
    }
    await age('a', 3601);
    await utimes(join(folder, 'a.json'), 0, 0);
    await store.save('c', about('c'), writing('2'));
    expect(await names()).toEqual(['a.ctkvr', 'a.json', 'c.ctkvr', 'c.json', ...notOurs, ...underWay].sort());
    expect(await keysOf(store)).toEqual(['c', 'a']);
    expect((await store.keys()).sort()).toEqual(['a', 'c']);
  });
});

describe('refuses', () => {
  it.each(['', '../a', 'a/b', 'a.b', 'ä', 'a'.repeat(65)])('the key %j', async (key) => {
    const store = new SnapshotStore({ folder });
    const refused = { code: 'CTKVR_INVALID_OPTION', fields: { option: 'key' } };
    await expect(store.save(key, about('a'), writing('1'))).rejects.toMatchObject(refused);
    await expect(store.open(key, reading)).rejects.toMatchObject(refused);
    await expect(store.find(key)).rejects.toMatchObject(refused);
    await expect(store.remove(key)).rejects.toMatchObject(refused);
    await expect(store.rename(key, 'a')).rejects.toMatchObject(refused);
    await expect(store.exportTo(key, join(root, 'x'))).rejects.toMatchObject(refused);
    expect(await readdir(root)).toEqual([]);
  });

  it.each(['', ' ', 'a\nb', '\u001b[2J', 'a'.repeat(201)])('the name %j', async (name) => {
    const store = new SnapshotStore({ folder });
    const refused = { code: 'CTKVR_INVALID_OPTION', fields: { option: 'name' } };
    await expect(store.save('a', about(name), writing('1'))).rejects.toMatchObject(refused);
    await store.save('a', about('a'), writing('1'));
    await expect(store.rename('a', name)).rejects.toMatchObject(refused);
  });

  it('unknown options, and a limit that is none', () => {
    expect(() => new SnapshotStore({ folder, maxByte: 1 } as never)).toThrow(/did you mean maxBytes/);
    expect(() => new SnapshotStore({ folder, maxBytes: 0 })).toThrow(/maxBytes must be/);
  });

  it('a write that fails: what the key had stays, nothing is left over', async () => {
    const store = new SnapshotStore({ folder });
    await store.save('a', about('a'), writing('old'));
    const failing = async (path: string) => {
      await writeFile(path, 'half');
      throw new CtkvrError('CTKVR_ABORTED', 'cancelled');
    };
    await expect(store.save('a', about('b'), failing)).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    const full = Object.assign(new Error('no space'), { code: 'ENOSPC', syscall: 'write' });
    await expect(store.save('a', about('b'), rejecting(full))).rejects.toMatchObject({ code: 'CTKVR_DISK_FULL' });
    const nothing = async () => ({ bytes: 1 });
    await expect(store.save('b', about('b'), nothing)).rejects.toMatchObject({ code: 'CTKVR_OUTPUT_FAILED' });
    expect(await store.open('a', reading)).toBe('old');
    expect((await store.list()).map(({ name }) => name)).toEqual(['a']);
  });

  it('a folder that is none', async () => {
    await writeFile(folder, 'a file');
    const store = new SnapshotStore({ folder });
    await expect(store.save('a', about('a'), writing('1'))).rejects.toMatchObject({ code: 'CTKVR_OUTPUT_FAILED' });
    await expect(store.list()).rejects.toMatchObject({ code: 'CTKVR_FILE_UNREADABLE', fields: { path: folder } });
  });
});
