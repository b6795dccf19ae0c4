/** Several models behind one server, and engines that are not there at the moment. */
import { CtkvrError } from '@ctkvr/core';
import { describe, expect, test } from 'vitest';
import { createApp, RequestQueue } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';

function serve() {
  const engines = ['first', 'second'].map((modelId) => new EchoEngine({ modelId })) as [EchoEngine, EchoEngine];
  const app = createApp({ engine: engines, queue: new RequestQueue({ maxRunning: 1 }), localOnly: false });
  const get = async (path: string) => {
    const response = await app.request(path);
    return [response.status, await response.json()];
  };
  const post = (path: string, body: object) =>
    app.request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const chat = (body: object) => post('/v1/chat/completions', { messages: [{ role: 'user', content: 'hi' }], ...body });
  return { engines, get, post, chat };
}

describe('several models', () => {
  test('are listed, and each answers for its own name', async () => {
    const { get, post, chat } = serve();
    expect(await get('/v1/models')).toMatchObject([200, { data: [{ id: 'first' }, { id: 'second' }] }]);
    expect(await get('/v1/models/second')).toMatchObject([200, { id: 'second', context_length: 50 }]);
    expect(await (await chat({ model: 'second' })).json()).toMatchObject({ model: 'second' });
    expect(await (await chat({ model: 'first' })).json()).toMatchObject({ model: 'first' });
    const counted = await post('/v1/messages/count_tokens', {
      model: 'second',
      messages: [{ role: 'user', content: 'a b' }],
    });
    expect(await counted.json()).toEqual({ input_tokens: 2 });
    expect(await get('/props?model=second')).toMatchObject([200, { model_alias: 'second' }]);
    expect(await get('/props')).toMatchObject([200, { model_alias: 'first' }]);
  });

  test('that do not exist are refused with those that do, on every route', async () => {
    const { get, post, chat } = serve();
    const refused = {
      error: { code: 'model_not_found', message: expect.stringMatching(/'third'.*'first', 'second'/) },
    };
    const answer = await chat({ model: 'third' });
    expect([answer.status, await answer.json()]).toMatchObject([404, refused]);
    for (const path of ['/v1/models/third', '/props?model=third'])
      expect(await get(path)).toMatchObject([404, refused]);
    for (const [path, body] of [
      ['/tokenize', { content: 'a' }],
      ['/detokenize', { tokens: [1] }],
    ] as const) {
      expect((await post(path, { ...body, model: 'third' })).status).toBe(404);
      expect((await post(path, { ...body, model: 'second' })).status).toBe(200);
    }
  });

  test('tell of each one in /health; one that has failed leaves the server well, all of them do not', async () => {
    const { engines, get } = serve();
    engines[1].state = 'failed';
    engines[1].failure = 'engine_failed';
    const models = [
      { id: 'first', state: 'ready' },
      { id: 'second', state: 'failed' },
    ];
    expect(await get('/health')).toMatchObject([200, { status: 'ok', models }]);
    expect(await get('/ready')).toEqual([200, { status: 'ready' }]);
    engines[0].failure = 'engine_failed';
    expect(await get('/health')).toMatchObject([503, { status: 'engine_failed' }]);
    expect(await get('/ready')).toEqual([503, { status: 'engine_failed' }]);
  });
});

describe('an engine that is being started again', () => {
  test('keeps the server alive, and out of the load balancer', async () => {
    const { engines, get } = serve();
    engines[0].state = 'restarting';
    expect(await get('/health')).toMatchObject([200, { status: 'restarting' }]);
    expect(await get('/ready')).toEqual([503, { status: 'restarting' }]);
  });

  test.each(['loading', 'unloaded', 'restarting'] as const)('begins streams at once while %s', async (state) => {
    const { engines, chat } = serve();
    engines[1].state = state;
    engines[1].prepareMs = 100; // it waits for the model there
    const response = await chat({ model: 'second', stream: true });
    expect([response.status, engines[1].numPreparing]).toEqual([200, 1]);
    const text = await response.text();
    expect(text).toContain('"content":"hi "');
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
  });

  test.each([
    ['/v1/chat/completions', 'data: {"error":{'],
    ['/v1/completions', 'data: {"error":{'],
    ['/v1/responses', 'event: error\n'],
    ['/v1/messages', 'event: error\n'],
  ])('%s tells in the stream when it does not come back', async (path, frame) => {
    const { engines, post } = serve();
    engines[1].state = 'restarting';
    engines[1].prepare = async () => {
      throw new CtkvrError('CTKVR_ENGINE_FAILED', 'it ended five times');
    };
    const said = path === '/v1/completions' ? { prompt: 'hi' } : path === '/v1/responses' ? { input: 'hi' } : null;
    const body = { messages: [{ role: 'user', content: 'hi' }], max_tokens: 5 };
    const response = await post(path, { model: 'second', stream: true, ...(said ?? body) });
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain(frame);
    expect(text).toContain('it ended five times');
    expect(text).not.toContain('[DONE]');
    const whole = await post(path, { model: 'second', ...(said ?? body) });
    expect([whole.status, whole.headers.get('retry-after')]).toEqual([503, null]);
  });
});

test('a prompt that was prepared is freed when its request has ended, however it did', async () => {
  const { engines, chat } = serve();
  let numClosed = 0;
  const prepare = engines[0].prepare.bind(engines[0]);
  engines[0].prepare = async (request) => ({
    ...(await prepare(request)),
    close: () => {
      numClosed += 1;
    },
  });
  const messages = [{ role: 'user', content: 'one !fail' }];
  await (await chat({ model: 'first' })).text();
  await (await chat({ model: 'first', messages })).text();
  await (await chat({ model: 'first', messages, stream: true })).text();
  expect(numClosed).toBe(3);
});
