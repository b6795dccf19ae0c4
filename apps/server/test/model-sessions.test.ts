/** Documents in memory on a model that reads nothing, and the end of their sessions. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Model, type ReadDocument, SnapshotStore } from '@ctkvr/model-runner';
import { expect, test, vi } from 'vitest';
import { ModelSessions } from '../src/sessions/model-sessions.js';

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
