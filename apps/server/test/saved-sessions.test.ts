/** Sessions on disk, over files that are no snapshots. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ReadDocument, SnapshotStore } from '@ctkvr/model-runner';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SavedSessions } from '../src/sessions/saved-sessions.js';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ctkvr-saved-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const of = (modelName: string) => new SavedSessions(new SnapshotStore({ folder }), modelName);
const save = async (path: string) => {
  await writeFile(path, 'content');
  return { bytes: 7 };
};
const document = { numTokens: 7, save } as unknown as ReadDocument;

test('ids are those of the list: of one owner and one model, as they are now', async () => {
  const [mine, others] = [of('mine'), of('others')];
  for (const id of ['a', 'b']) await mine.save({ owner: 'ada', id }, id, document);
  await mine.save({ owner: 'bob', id: 'c' }, 'c', document);
  await others.save({ owner: 'ada', id: 'd' }, 'd', document);
  const found = async () => [(await mine.ids('ada')).sort(), (await mine.list('ada')).map(({ id }) => id).sort()];
  expect(await found()).toEqual([
    ['a', 'b'],
    ['a', 'b'],
  ]);
  await mine.remove({ owner: 'ada', id: 'a' });
  await mine.save({ owner: 'ada', id: 'e' }, 'e', document);
  expect(await found()).toEqual([
    ['b', 'e'],
    ['b', 'e'],
  ]);
  expect(await mine.find({ owner: 'ada', id: 'b' })).toMatchObject({ id: 'b', name: 'b', state: 'saved' });
  for (const key of [
    { owner: 'bob', id: 'b' },
    { owner: 'ada', id: 'd' },
  ])
    expect(await mine.find(key)).toBeNull();
});

test.each(['a.b', '../a', '', 'ä', 'a'.repeat(100)])('of the id %j there is none', async (id) => {
  const [sessions, key] = [of('mine'), { owner: 'ada', id }];
  expect([
    await sessions.find(key),
    await sessions.rename(key, 'name'),
    await sessions.exportTo(key, join(folder, 'file')),
    await sessions.remove(key),
  ]).toEqual([null, false, false, false]);
});
