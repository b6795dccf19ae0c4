/** Documents of models that are not loaded: nothing but what is on disk, and no model is loaded for it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ReadDocument, SnapshotStore } from '@ctkvr/model-runner';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { ModelPool } from '../src/isolation/model-pool.js';
import { ProcessEngine } from '../src/isolation/process-engine.js';
import { SavedSessions } from '../src/sessions/saved-sessions.js';
import { readEvents } from './read-events.js';

const owner = '';
const logger = pino({ level: 'silent' });

let folder: string;
let pool: ModelPool;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ctkvr-rest-'));
  pool = new ModelPool({ budgetBytes: 1, unloadAfterMs: null, maxWaiting: 10, logger });
});
afterEach(async () => {
  await pool.close();
  await rm(folder, { recursive: true });
});

/** Engines that can be loaded by no means: there are no such files. */
function serve(sessionStore: { folder: string } | undefined, maxSessions = 10) {
  const engines = ['a', 'b'].map(
    (modelId) =>
      new ProcessEngine({
        modelId,
        storedName: `file-${modelId}`,
        path: join(folder, 'none.gguf'),
        contextLength: null,
        sessionStore,
        load: {},
        neededBytes: 1,
        pool,
        logger,
      }),
  );
  const app = createApp({ engine: engines, maxSessions });
  const send = async (method: string, path: string, body?: object) => {
    const headers = { 'content-type': 'application/json' };
    return await app.request(path, { method, ...(body === undefined ? {} : { headers, body: JSON.stringify(body) }) });
  };
  const json = async (method: string, path: string, body?: object) => {
    const response = await send(method, path, body);
    return [response.status, await response.json()];
  };
  const states = () => engines.map(({ state }) => state);
  return { send, json, states };
}

async function save(storedName: string, id: string, name: string): Promise<void> {
  const write = async (path: string) => {
    await writeFile(path, `snapshot of ${id}`);
    return { bytes: 1 };
  };
  const document = { numTokens: 7, save: write } as unknown as ReadDocument;
  await new SavedSessions(new SnapshotStore({ folder }), storedName).save({ owner, id }, name, document);
}

test('are listed, told of, watched, renamed, exported and removed', async () => {
  await save('file-a', 'session-1', 'one');
  await save('file-b', 'session-2', 'two');
  await save('file-c', 'session-3', 'of a model that is not served');
  const { send, json, states } = serve({ folder });
  const [, list] = await json('GET', '/v1/sessions');
  const { data } = list as { data: { id: string; model: string }[] };
  expect(data.map(({ id, model }) => [id, model]).sort()).toEqual([
    ['session-1', 'a'],
    ['session-2', 'b'],
  ]);
  const two = { id: 'session-2', object: 'session', model: 'b', state: 'saved', tokens_done: 7, tokens_total: 7 };
  expect(await json('GET', '/v1/sessions/session-2')).toMatchObject([200, { ...two, name: 'two' }]);
  expect(await readEvents(await send('GET', '/v1/sessions/session-2/events'))).toMatchObject([two]);
  expect(await json('PATCH', '/v1/sessions/session-2', { name: 'new' })).toMatchObject([200, { ...two, name: 'new' }]);
  expect(await json('GET', '/v1/sessions/session-2')).toMatchObject([200, { name: 'new' }]);
  expect(await (await send('GET', '/v1/sessions/session-2/export')).text()).toBe('snapshot of session-2');
  expect(await json('DELETE', '/v1/sessions/session-2')).toMatchObject([200, { deleted: true }]);
  for (const [method, body] of [['GET'], ['PATCH', { name: 'x' }], ['DELETE']] as const) {
    for (const id of ['session-2', 'session-3']) {
      expect(await json(method, `/v1/sessions/${id}`, body)).toMatchObject([
        404,
        { error: { code: 'session_not_found' } },
      ]);
    }
  }
  expect(await new SnapshotStore({ folder }).keys()).toHaveLength(2);
  expect(states()).toEqual(['unloaded', 'unloaded']);
});

test('count, and those that are not there are refused, before a model is loaded', async () => {
  await save('file-a', 'session-1', 'one');
  await save('file-b', 'session-2', 'two');
  const { json, states } = serve({ folder }, 2);
  for (const path of ['', '/session-1/fork', '/import']) {
    const refused = [400, { error: { code: 'too_many_sessions' } }];
    expect(await json('POST', `/v1/sessions${path}`, { text: 'a', model: 'b' })).toMatchObject(refused);
  }
  const missing = [404, { error: { code: 'session_not_found' } }];
  expect(await json('POST', '/v1/sessions/none/fork')).toMatchObject(missing);
  expect(await json('GET', '/v1/sessions/none/passages')).toMatchObject(missing);
  const messages = [{ role: 'user', content: 'who?' }];
  for (const stream of [false, true]) {
    expect(await json('POST', '/v1/chat/completions', { model: 'a', session: 'none', messages, stream })).toMatchObject(
      missing,
    );
    expect(
      await json('POST', '/v1/chat/completions', { model: 'a', session: 'session-2', messages, stream }),
    ).toMatchObject([400, { error: { param: 'model', message: expect.stringContaining("'b'") } }]);
  }
  expect(states()).toEqual(['unloaded', 'unloaded']);
});

test('are none without a store', async () => {
  const { json, states } = serve(undefined);
  expect(await json('GET', '/v1/sessions')).toMatchObject([200, { data: [] }]);
  expect(await json('PATCH', '/v1/sessions/session-1', { name: 'x' })).toMatchObject([404, {}]);
  expect(states()).toEqual(['unloaded', 'unloaded']);
});
