/** Documents of several models that do not fit into memory together. Needs CTKVR_TEST_MODEL and the native build. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readMobyDick, SnapshotStore } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask as chat, health, startLogged } from './logged-server.js';
import { ask, post, type Session, textOf } from './session-client.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `Documents of several models${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

describe.skipIf(!modelPath)(title, { timeout: 300_000 }, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-readers-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Two names of one file: what tells their documents apart is the names. The memory holds one of them. */
  const start = async () => {
    const models = ['a', 'b'].map((name) => ({ model: modelPath!, name }));
    const load = { numThreads: 1, sessionMemoryBytes: 1e9 };
    const { server } = await startLogged({ models, memoryBytes: 1e9, sessionStore: { folder }, load });
    const states = async () => (await health(server)).models.map((one) => (one as { state: string }).state);
    const listed = async () => {
      const { data } = (await (await fetch(`${server.url}/v1/sessions`)).json()) as { data: Session[] };
      return data;
    };
    return { server, states, listed };
  };
  const question = 'Who tells this story?';

  test('are read to the end before their model makes way, are there while it is unloaded, and after a restart', async () => {
    const text = (await readMobyDick()).slice(0, 1500);
    let id: string;
    let answer: string;
    {
      const { server, states, listed } = await start();
      await using _ = server;
      const { url } = server;
      const created = await post(`${url}/v1/sessions`, { name: 'Moby-Dick', text, model: 'b' });
      expect(created.status).toBe(202);
      const session = (await created.json()) as Session;
      expect(session).toMatchObject({ model: 'b', state: 'reading' });
      ({ id } = session);
      // The other model wants the memory at once. It gets it when the document is read and saved.
      expect((await chat(server, { model: 'a', max_tokens: 2 })).status).toBe(200);
      expect(await states()).toEqual(['ready', 'unloaded']);
      const [saved, ...others] = await listed();
      expect([saved, others]).toMatchObject([{ id, model: 'b', name: 'Moby-Dick', state: 'saved' }, []]);
      expect(saved!.tokens_total).toBeGreaterThan(200);
      const renamed = await fetch(`${url}/v1/sessions/${id}`, {
        method: 'PATCH',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name: 'The whale' }),
      });
      expect([renamed.status, await states()]).toEqual([200, ['ready', 'unloaded']]);

      const ofOther = await chat(server, { model: 'a', session: id });
      expect([ofOther.status, await ofOther.json()]).toMatchObject([400, { error: { param: 'model' } }]);
      expect(await states()).toEqual(['ready', 'unloaded']);
      const answered = await ask(url, id, question, { model: 'b' });
      expect(answered.usage.prompt_tokens_details.cached_tokens).toBeGreaterThan(saved!.tokens_total - 3);
      answer = textOf(answered);
      expect(await listed()).toMatchObject([{ id, model: 'b', name: 'The whale', state: 'ready' }]);

      const snapshot = await (await fetch(`${url}/v1/sessions/${id}/export`)).arrayBuffer();
      const imported = await fetch(`${url}/v1/sessions/import?model=a`, { method: 'POST', body: snapshot });
      expect([imported.status, await imported.json()]).toMatchObject([201, { model: 'a', state: 'ready' }]);
      expect((await fetch(`${url}/v1/sessions/${id}/fork`, { method: 'POST' })).status).toBe(201);
      // The fork, too, is kept before its model makes way.
      expect((await chat(server, { model: 'a', max_tokens: 2 })).status).toBe(200);
      expect((await listed()).map((one) => one.model).sort()).toEqual(['a', 'b', 'b']);
    }
    const { server, states, listed } = await start();
    await using _ = server;
    expect((await listed()).map((one) => [one.model, one.state]).sort()).toEqual([
      ['a', 'saved'],
      ['b', 'saved'],
      ['b', 'saved'],
    ]);
    expect(await states()).toEqual(['unloaded', 'unloaded']);
    expect(textOf(await ask(server.url, id, question, { model: 'b' }))).toBe(answer);
  });

  test('that are being read do not hold up the end of the server', async () => {
    const { server } = await start();
    const text = (await readMobyDick()).slice(0, 25_000);
    const { id } = (await (await post(`${server.url}/v1/sessions`, { text, model: 'b' })).json()) as Session;
    await server.close();
    const saved = await new SnapshotStore({ folder }).keys();
    expect(saved.filter((key) => key.endsWith(id))).toEqual([]);
  });
});
