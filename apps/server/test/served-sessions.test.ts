/** Documents of several models behind one server, on sessions without a model. */
import { CtkvrError } from '@ctkvr/core';
import { beforeEach, describe, expect, test } from 'vitest';
import { createApp, makeApiKey } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { FakeSessions } from './fake-sessions.js';
import { readEvents } from './read-events.js';

class Reader extends EchoEngine {
  readonly sessions: FakeSessions;

  constructor(modelId: string) {
    super({ modelId });
    this.sessions = new FakeSessions(`${modelId}-`);
  }
}

const [alice, bob] = [makeApiKey('alice'), makeApiKey('bob')];
let engines: [Reader, Reader];
let app: ReturnType<typeof createApp>;

beforeEach(() => {
  engines = [new Reader('small'), new Reader('large')];
  app = createApp({ engine: engines, maxSessions: 3, apiKeys: [alice.entry, bob.entry] });
});

async function send(method: string, path: string, body?: object | string, key = alice.key) {
  const isJson = typeof body === 'object';
  const response = await app.request(path, {
    method,
    headers: { authorization: `Bearer ${key}`, ...(isJson ? { 'content-type': 'application/json' } : {}) },
    ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : body }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}
const post = (path: string, body?: object | string, key?: string) => send('POST', path, body, key);
const create = async (model: string | undefined, key?: string) => {
  const { status, body } = await post('/v1/sessions', { text: 'Call me Ishmael.', model }, key);
  expect(status).toBe(202);
  return body as { id: string; model: string };
};
const chat = (model: string, session: string, more: object = {}, key?: string) =>
  post('/v1/chat/completions', { model, session, messages: [{ role: 'user', content: 'who?' }], ...more }, key);

describe('documents of several models', () => {
  test('are read by the one that is named, or the first, and say which', async () => {
    expect(await create(undefined)).toMatchObject({ id: 'small-1', model: 'small' });
    expect(await create('large')).toMatchObject({ id: 'large-1', model: 'large' });
    const form = new FormData();
    form.set('model', 'large');
    form.set('file', new File(['a text'], 'a.txt'));
    const headers = { authorization: `Bearer ${alice.key}` };
    const sent = await app.request('/v1/sessions', { method: 'POST', headers, body: form });
    expect([sent.status, await sent.json()]).toMatchObject([202, { id: 'large-2', model: 'large', name: 'a.txt' }]);
  });

  test('are made of snapshots by the one that the query names', async () => {
    expect(await post('/v1/sessions/import?model=large&name=back', 'a snapshot')).toMatchObject({
      status: 201,
      body: { id: 'large-1', model: 'large', name: 'back' },
    });
    expect(await post('/v1/sessions/import', 'a snapshot')).toMatchObject({ status: 201, body: { model: 'small' } });
  });

  test('of a model that there is not are refused with those that there are', async () => {
    const refused = {
      status: 404,
      body: { error: { code: 'model_not_found', message: expect.stringMatching(/'third'.*'small', 'large'/) } },
    };
    expect(await post('/v1/sessions', { text: 'a', model: 'third' })).toMatchObject(refused);
    expect(await post('/v1/sessions/import?model=third', 'a snapshot')).toMatchObject(refused);
  });

  test('of a model that reads none are refused with those that do', async () => {
    const mute = new EchoEngine({ modelId: 'mute' });
    app = createApp({ engine: [mute, ...engines], apiKeys: [alice.entry] });
    expect(await post('/v1/sessions', { text: 'a', model: 'mute' })).toMatchObject({
      status: 404,
      body: { error: { code: 'model_not_found', message: expect.stringMatching(/'small', 'large'.*'mute'/) } },
    });
    expect(await create(undefined)).toMatchObject({ model: 'small' });
  });

  test('are listed together, newest first', async () => {
    for (const [index, model] of ['small', 'large', 'small'].entries()) {
      for (const { sessions } of engines) sessions.created = index;
      await create(model);
    }
    const { body } = await send('GET', '/v1/sessions');
    expect(body.data).toMatchObject([
      { id: 'small-2', model: 'small' },
      { id: 'large-1', model: 'large' },
      { id: 'small-1', model: 'small' },
    ]);
  });

  test('are found by their id alone', async () => {
    const { id } = await create('large');
    const path = `/v1/sessions/${id}`;
    expect(await send('GET', path)).toMatchObject({ status: 200, body: { id, model: 'large' } });
    const renamed = await send('PATCH', path, { name: 'Moby-Dick' });
    expect(renamed).toMatchObject({ status: 200, body: { id, model: 'large', name: 'Moby-Dick' } });
    engines[1].sessions.read(id, 16);
    const headers = { authorization: `Bearer ${alice.key}` };
    expect(await readEvents(await app.request(`${path}/events`, { headers }))).toMatchObject([
      { id, model: 'large', state: 'ready' },
    ]);
    expect(await send('GET', `${path}/passages`)).toMatchObject({ body: { passages: ['Call me Ishmael.'] } });
    expect(await (await app.request(`${path}/export`, { headers })).text()).toBe('Call me Ishmael.');
    expect(await post(`${path}/fork`)).toMatchObject({ status: 201, body: { id: 'large-2', model: 'large' } });
    expect(await send('DELETE', path)).toMatchObject({ status: 200, body: { id, deleted: true } });
    expect([...engines[1].sessions.all.keys()]).toEqual(['large-2']);
    expect((await send('GET', path)).status).toBe(404);
  });

  test('count together', async () => {
    for (const model of ['small', 'large', 'small']) await create(model);
    for (const path of ['', '/small-1/fork', '/large-1/fork', '/import?model=large']) {
      const refused = { status: 400, body: { error: { code: 'too_many_sessions' } } };
      expect(await post(`/v1/sessions${path}`, { text: 'a', model: 'large' })).toMatchObject(refused);
    }
    await create('large', bob.key); // each owner has a number of its own
  });

  test('all at once are no more than may be', async () => {
    const asked = Array.from({ length: 10 }, (_, n) =>
      post('/v1/sessions', { text: 'a', model: n % 2 ? 'small' : 'large' }),
    );
    const statuses = (await Promise.all(asked)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 202)).toHaveLength(3);
  });

  test('are found while another model answers late, or not at all', async () => {
    const { id } = await create('large');
    engines[0].sessions.get = () => new Promise(() => {});
    expect((await send('GET', `/v1/sessions/${id}`)).status).toBe(200);
    engines[0].sessions.get = () => Promise.reject(new CtkvrError('CTKVR_ENGINE_LOST', 'it ended'));
    expect((await send('GET', `/v1/sessions/${id}`)).status).toBe(200);
    const unknown = await send('GET', '/v1/sessions/none');
    expect(unknown).toMatchObject({ status: 503, body: { error: { code: 'engine_lost' } } }); // it may be there
  });
});

describe('a chat request about a document', () => {
  test.each([false, true])('goes to the model that read it, and no other (stream: %s)', async (stream) => {
    const { id } = await create('large');
    const refused = {
      status: 400,
      body: {
        error: { code: 'invalid_value', param: 'model', message: expect.stringMatching(/'large'.*not 'small'/) },
      },
    };
    engines[0].state = 'unloaded';
    expect(await chat('small', id, { stream })).toMatchObject(refused);
    expect(engines[0].lastRequest).toBeNull();
    if (stream) return;
    expect((await chat('large', id)).status).toBe(200);
    expect(engines[1].lastRequest).toMatchObject({ sessionId: id });
  });

  test.each(['small', 'large'])('does not tell, asked of %s, that another owner has it', async (model) => {
    const { id } = await create('large', bob.key);
    const missing = await chat(model, 'large-9');
    const others = await chat(model, id);
    expect([others.status, (others.body.error as { code: string }).code]).toEqual([404, 'session_not_found']);
    expect(JSON.stringify(others)).toBe(JSON.stringify(missing).replaceAll('large-9', id));
  });
});

test('sessions of another owner are none, whichever model has them', async () => {
  const { id } = await create('large', bob.key);
  await create('small', bob.key);
  expect((await send('GET', '/v1/sessions')).body.data).toEqual([]);
  for (const [method, path] of [
    ['GET', ''],
    ['GET', '/events'],
    ['GET', '/passages'],
    ['GET', '/export'],
    ['POST', '/fork'],
    ['DELETE', ''],
  ] as const) {
    expect((await send(method, `/v1/sessions/${id}${path}`)).status).toBe(404);
  }
  expect((await send('PATCH', `/v1/sessions/${id}`, { name: 'mine' })).status).toBe(404);
});
