/** Documents in memory on a model that reads nothing, and the end of their sessions. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Model, type ReadDocument, SnapshotStore } from '@ctkvr/model-runner';
import { expect, test, vi } from 'vitest';
import { ModelSessions } from '../src/sessions/model-sessions.js';
import { until } from './until.js';

test('a save that fails, and whose failure cannot be told either, leaves no document in memory when they are closed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ctkvr-sessions-'));
  try {
    const close = vi.fn(async () => {});
    const saves: (() => void)[] = [];
    const save = () => new Promise((_, reject) => saves.push(() => reject(new Error('no disk'))));
    const document = { numTokens: 1, save, close } as unknown as ReadDocument;
    const sessions = new ModelSessions({
      model: { readDocument: async () => document } as unknown as Model,
      modelName: 'm',
      store: new SnapshotStore({ folder }),
      onSaveFailed: () => {
        throw new Error('no log');
      },
    });
    await sessions.create('', { name: 'a', text: 'a' });
    await vi.waitUntil(() => saves.length === 1);
    const closed = sessions.close();
    saves[0]!();
    await expect(closed).rejects.toThrow('no log');
    expect(close).toHaveBeenCalledTimes(1);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a session is settled when it is saved; at once when it could not be read, or is none', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ctkvr-sessions-'));
  try {
    let finishReading: (() => void) | null = null;
    let finishSaving: (() => void) | null = null;
    const save = async (path: string) => {
      await new Promise<void>((resolve) => {
        finishSaving = resolve;
      });
      await writeFile(path, 'snapshot');
      return { bytes: 8 };
    };
    const document = { numTokens: 1, save, close: async () => {} } as unknown as ReadDocument;
    const readDocument = async (text: string) => {
      if (text === 'bad') throw new Error('unreadable');
      await new Promise<void>((resolve) => {
        finishReading = resolve;
      });
      return document;
    };
    const model = { readDocument } as unknown as Model;
    const sessions = new ModelSessions({ model, modelName: 'm', store: new SnapshotStore({ folder }) });
    await sessions.settled({ owner: '', id: 'none' });
    const bad = await sessions.create('', { name: 'a', text: 'bad' });
    await sessions.settled({ owner: '', id: bad.id });
    const key = { owner: '', id: (await sessions.create('', { name: 'a', text: 'good' })).id };
    let isSettled = false;
    const settled = sessions.settled(key).then(() => {
      isSettled = true;
    });
    await until(() => finishReading !== null);
    expect(isSettled).toBe(false);
    finishReading!();
    await until(() => finishSaving !== null);
    expect([isSettled, (await sessions.get(key))?.state]).toEqual([false, 'ready']);
    finishSaving!();
    await settled;
    expect(await new SnapshotStore({ folder }).keys()).toHaveLength(1);
  } finally {
    await rm(folder, { recursive: true });
  }
});
