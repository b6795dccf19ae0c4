/** The routes of document sessions, on sessions without a model. */
import { beforeEach, describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { FakeSessions } from './fake-sessions.js';
import { readEvents } from './read-events.js';

class EngineWithSessions extends EchoEngine {
  readonly sessions = new FakeSessions();
}

let engine: EngineWithSessions;
let app: ReturnType<typeof createApp>;

beforeEach(() => {
  engine = new EngineWithSessions();
  app = createApp({ engine, maxSessions: 3, maxBodyBytes: 100_000, keepAliveMs: 5 });
});

const send = (method: string, path: string, body?: object) =>
  app.request(path, {
    method,
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
const errorOf = async (response: Response) => ((await response.json()) as { error: Record<string, unknown> }).error;

async function create(body: object = { name: 'a book', text: 'Call me Ishmael.' }): Promise<string> {
  const response = await send('POST', '/v1/sessions', body);
  expect(response.status).toBe(202);
  return ((await response.json()) as { id: string }).id;
}

describe('a session', () => {
  test('is answered for before it is read', async () => {
    const response = await send('POST', '/v1/sessions', { name: 'a book', text: 'Call me Ishmael.', model: 'echo' });
    expect(response.status).toBe(202);
    expect(await response.json()).toEqual({
      id: 's1',
      object: 'session',
      model: 'echo',
      name: 'a book',
      state: 'reading',
      tokens_done: 0,
      tokens_total: 0,
      created: 1,
    });
  });

  test('is listed, shown, renamed and deleted', async () => {
    const id = await create();
    expect(await (await send('GET', '/v1/sessions')).json()).toMatchObject({ object: 'list', data: [{ id }] });
    const renamed = await send('PATCH', `/v1/sessions/${id}`, { name: 'Moby-Dick' });
    expect(await renamed.json()).toMatchObject({ id, name: 'Moby-Dick' });
    expect(await (await send('GET', `/v1/sessions/${id}`)).json()).toMatchObject({ name: 'Moby-Dick' });
    const deleted = await send('DELETE', `/v1/sessions/${id}`);
    expect([deleted.status, await deleted.json()]).toEqual([200, { id, object: 'session', deleted: true }]);
    expect((await send('GET', `/v1/sessions/${id}`)).status).toBe(404);
  });

  test('is forked', async () => {
    const id = await create();
    const fork = await send('POST', `/v1/sessions/${id}/fork`);
    expect([fork.status, await fork.json()]).toMatchObject([201, { id: 's2', name: 'a book' }]);
  });

  test('shows its passages', async () => {
    const id = await create({ text: 'x'.repeat(40) });
    const passages = await (await send('GET', `/v1/sessions/${id}/passages`)).json();
    expect(passages).toEqual({ passage_tokens: 32, passages: ['x'.repeat(32), 'x'.repeat(8)] });
  });

  test('is exported once it is read, and imported', async () => {
    const id = await create();
    expect((await send('GET', `/v1/sessions/${id}/export`)).status).toBe(503);
    engine.sessions.read(id, 16);
    const exported = await send('GET', `/v1/sessions/${id}/export`);
    expect(exported.headers.get('content-disposition')).toBe(`attachment; filename="${id}.ctkvr"`);
    const body = await exported.text();
    const imported = await app.request('/v1/sessions/import?name=again', { method: 'POST', body });
    expect([imported.status, await imported.json()]).toMatchObject([201, { name: 'again' }]);
    expect(engine.sessions.all.get('s2')?.text).toBe('Call me Ishmael.');
  });

  test.each([
    ['rubbish', 400, 'bad_snapshot'],
    [undefined, 400, 'invalid_value'],
  ])('is not made of the snapshot %s', async (body, status, code) => {
    const response = await app.request('/v1/sessions/import', {
      method: 'POST',
      ...(body === undefined ? {} : { body }),
    });
    expect([response.status, (await errorOf(response)).code]).toEqual([status, code]);
  });

  test('of another owner is none', async () => {
    const { id } = await engine.sessions.create('somebody', { name: 'theirs', text: 'secret' });
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/events'],
      ['GET', '/passages'],
      ['GET', '/export'],
      ['POST', '/fork'],
      ['DELETE', ''],
    ] as const) {
      const response = await send(method, `/v1/sessions/${id}${path}`);
      expect([response.status, (await errorOf(response)).code]).toEqual([404, 'session_not_found']);
    }
    expect((await send('PATCH', `/v1/sessions/${id}`, { name: 'mine' })).status).toBe(404);
    expect(await (await send('GET', '/v1/sessions')).json()).toEqual({ object: 'list', data: [] });
  });
});

describe('events', () => {
  test('tell of progress until it is ready', async () => {
    const id = await create();
    const response = await send('GET', `/v1/sessions/${id}/events`);
    expect(response.headers.get('content-type')).toMatch('text/event-stream');
    const events = readEvents(response);
    await new Promise((resolve) => setTimeout(resolve, 20)); // a comment is sent meanwhile
    engine.sessions.read(id, 16);
    expect(await events).toMatchObject([
      { id, state: 'reading', tokens_done: 0 },
      { id, state: 'ready', tokens_done: 16, tokens_total: 16 },
    ]);
  });

  test('end when it has failed, and say why', async () => {
    const id = await create();
    const events = readEvents(await send('GET', `/v1/sessions/${id}/events`));
    engine.sessions.fail(id);
    expect((await events).at(-1)).toMatchObject({
      state: 'failed',
      error: { message: 'too long', code: 'context_length_exceeded' },
    });
  });

  test('end with the server', async () => {
    const stop = new AbortController();
    app = createApp({ engine, stopSignal: stop.signal });
    const id = await create();
    const events = readEvents(await send('GET', `/v1/sessions/${id}/events`));
    stop.abort();
    expect((await events).at(-1)).toHaveProperty('error');
  });
});

describe('what is refused', () => {
  test.each([
    [{}, 'text'],
    [{ text: '' }, 'text'],
    [{ text: ' \n' }, 'text'],
    [{ text: 5 }, 'text'],
    [{ text: 'a', name: '' }, 'name'],
    [{ text: 'a', name: 'a\nb' }, 'name'],
    [{ text: 'a', name: '\u202egnp.exe' }, 'name'],
    [{ text: 'a', name: '\ud800' }, 'name'],
    [{ text: 'a', name: 'a'.repeat(201) }, 'name'],
    [{ text: 'a', path: '/etc/passwd' }, 'path'],
  ])('%j, for its %s', async (body, param) => {
    const response = await send('POST', '/v1/sessions', body);
    expect([response.status, (await errorOf(response)).param]).toEqual([400, param]);
  });

  test('another model', async () => {
    const response = await send('POST', '/v1/sessions', { text: 'a', model: 'gpt-5' });
    expect([response.status, (await errorOf(response)).code]).toEqual([404, 'model_not_found']);
  });

  test('more sessions than may be', async () => {
    const id = await create();
    await create();
    await create();
    for (const path of ['', `/${id}/fork`, '/import']) {
      const response = await send('POST', `/v1/sessions${path}`, { text: 'a' });
      expect([response.status, (await errorOf(response)).code]).toEqual([400, 'too_many_sessions']);
    }
    await send('DELETE', `/v1/sessions/${id}`);
    await create();
  });

  test('more documents than may wait', async () => {
    const response = await send('POST', '/v1/sessions', { text: '!busy' });
    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).not.toBeNull();
  });

  test('a text that is too large', async () => {
    expect((await send('POST', '/v1/sessions', { text: 'a'.repeat(100_001) })).status).toBe(413);
  });
});

describe('a chat request', () => {
  const ask = (more: object) =>
    send('POST', '/v1/chat/completions', {
      model: 'echo',
      messages: [{ role: 'user', content: 'who is it?' }],
      ...more,
    });

  test('names its session to the engine, with its owner', async () => {
    const id = await create();
    engine.sessions.read(id, 16);
    expect((await ask({ session: id })).status).toBe(200);
    expect(engine.lastRequest).toMatchObject({ sessionId: id, owner: '', readMap: false });
  });

  test.each([false, true])('about none that there is: 404 (stream: %s)', async (stream) => {
    const response = await ask({ session: 'nothing', stream });
    expect(response.status).toBe(404);
    expect(await errorOf(response)).toMatchObject({ code: 'session_not_found', param: 'session' });
  });

  test('about a session begins with the user', async () => {
    const id = await create();
    const messages = [{ role: 'system', content: 'be kind' }];
    const response = await ask({ session: id, messages });
    expect([response.status, (await errorOf(response)).param]).toEqual([400, 'messages[0].role']);
  });

  test('streams at once about a document that is still being read', async () => {
    const id = await create();
    engine.prepareMs = 60;
    const response = await ask({ session: id, stream: true });
    const reader = response.body!.getReader();
    expect(Buffer.from((await reader.read()).value!).toString()).toBe(': keep-alive\n');
    await reader.cancel();
  });

  test('a template is not applied to a document', async () => {
    const body = { messages: [{ role: 'user', content: 'who?' }], session: 's1' };
    expect((await errorOf(await send('POST', '/apply-template', body))).param).toBe('session');
  });
});

test('an engine without sessions has no such routes', async () => {
  app = createApp({ engine: new EchoEngine() });
  expect((await send('GET', '/v1/sessions')).status).toBe(404);
  const body = { model: 'echo', messages: [{ role: 'user', content: 'hi' }], session: 's1' };
  expect((await send('POST', '/v1/chat/completions', body)).status).toBe(404);
});
