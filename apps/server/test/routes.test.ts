import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { type AppDeps, createApp, RequestQueue, type RequestQueueOptions } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { readEvents } from './read-events.js';
import { until } from './until.js';

const hello = { model: 'echo', messages: [{ role: 'user', content: 'one two three' }] };

type SetUp = Partial<RequestQueueOptions> & Partial<AppDeps>;

function setUp(options: SetUp = {}) {
  const engine = new EchoEngine();
  const queue = new RequestQueue({ maxRunning: 4, maxQueued: 4, ...options });
  const stop = new AbortController();
  const app = createApp({ ...options, engine, queue, stopSignal: stop.signal });
  const post = (body: unknown, init: RequestInit = {}) =>
    app.request('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
    });
  return { app, engine, queue, stop, post };
}

describe('models and health', () => {
  test('lists the one model and finds it by name', async () => {
    const { app } = setUp();
    const list = (await (await app.request('/v1/models')).json()) as { data: { id: string }[] };
    expect(list.data.map((model) => model.id)).toEqual(['echo']);
    expect(list.data).toMatchObject([{ context_length: 50, max_model_len: 50 }]);
    expect((await app.request('/v1/models/echo')).status).toBe(200);
    expect((await app.request('/v1/models/owner/other')).status).toBe(404);
  });

  test('health says ok, then stopping with 503', async () => {
    const { app, queue } = setUp();
    expect(await (await app.request('/health')).json()).toMatchObject({ status: 'ok', running: 0, queued: 0 });
    queue.close();
    expect((await app.request('/health')).status).toBe(503);
  });

  test('ready says whether one more request would be taken', async () => {
    const { app, engine, queue, post, stop } = setUp({ maxRunning: 1, maxQueued: 0 });
    const ready = async () => {
      const response = await app.request('/ready');
      return [response.status, ((await response.json()) as { status: string }).status];
    };
    expect(await ready()).toEqual([200, 'ready']);
    const running = post({ ...hello, messages: [{ role: 'user', content: '!hang' }] });
    await until(() => engine.numOpen === 1);
    expect(await ready()).toEqual([503, 'busy']);
    expect((await app.request('/health')).status).toBe(200);
    queue.close();
    expect(await ready()).toEqual([503, 'stopping']);
    stop.abort();
    await running;
  });

  test('props tells the context, the places, the template and the defaults, under llama.cpp’s names', async () => {
    expect(await (await setUp({ maxRunning: 3 }).app.request('/props')).json()).toMatchObject({
      default_generation_settings: { n_ctx: 50, params: { temperature: 1, top_k: 0, repeat_last_n: 64 } },
      total_slots: 3,
      model_alias: 'echo',
      chat_template: '{{ messages }}',
      bos_token: '<s>',
      eos_token: '</s>',
      modalities: { vision: false },
    });
  });

  test('embeddings are refused so that no client asks again', async () => {
    const response = await setUp().app.request('/v1/embeddings', { method: 'POST', body: '{}' });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: {
        type: 'invalid_request_error',
        code: 'unsupported_endpoint',
        message: expect.stringContaining('embedding'),
      },
    });
  });

  test('an unknown route is a JSON 404', async () => {
    const response = await setUp().app.request('/v1/nothing');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: 'not_found' } });
  });

  test('another method of a route is a 405 that names those it has', async () => {
    const { app } = setUp();
    for (const [method, path, allowed] of [
      ['GET', '/v1/chat/completions', 'POST'],
      ['DELETE', '/v1/models/echo', 'GET'],
      ['PUT', '/tokenize', 'POST'],
    ] as const) {
      const response = await app.request(path, { method });
      expect([response.status, response.headers.get('allow')]).toEqual([405, allowed]);
      expect(await response.json()).toMatchObject({ error: { code: 'method_not_allowed' } });
    }
  });

  test('what is refused leaves one line in the log, what is answered none', async () => {
    const lines: Record<string, unknown>[] = [];
    const logger = pino({ base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) });
    const { app, post } = setUp({ logger });
    for (const path of ['/v1/models', '/health', '/v1/nothing', '/v1/models/other', `/${'x'.repeat(500)}`]) {
      await app.request(path);
    }
    expect(lines).toEqual([
      { level: 30, requestId: expect.any(String), method: 'GET', path: '/v1/nothing', status: 404, msg: 'refused' },
      {
        level: 30,
        requestId: expect.any(String),
        method: 'GET',
        path: '/v1/models/other',
        status: 404,
        msg: 'refused',
      },
      {
        level: 30,
        requestId: expect.any(String),
        method: 'GET',
        path: `/${'x'.repeat(199)}`,
        status: 404,
        msg: 'refused',
      },
    ]);
    lines.length = 0;
    await post({});
    expect(lines).toMatchObject([{ outcome: 'missing_required_parameter', msg: 'ended' }]);
  });
});

describe('answers', () => {
  test('a whole answer has text, finish reason and usage', async () => {
    const response = await setUp().post(hello);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      object: 'chat.completion',
      model: 'echo',
      choices: [{ message: { role: 'assistant', content: 'one two three ' }, finish_reason: 'stop' }],
      usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 },
    });
  });

  test('max_completion_tokens bounds it, and goes before max_tokens', async () => {
    const body = await (await setUp().post({ ...hello, max_tokens: 1, max_completion_tokens: 2 })).json();
    expect(body).toMatchObject({ choices: [{ message: { content: 'one two ' }, finish_reason: 'length' }] });
  });

  test('a stream has role, text, finish, usage and [DONE], one id throughout', async () => {
    const { post, engine, queue } = setUp();
    const response = await post({ ...hello, stream: true, stream_options: { include_usage: true } });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const events = await readEvents(response);
    expect(events.at(-1)).toBe('[DONE]');
    const chunks = events.slice(0, -1);
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
    expect(chunks[0].choices[0].delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe('one two three ');
    expect(chunks.at(-2)).toMatchObject({ choices: [{ delta: {}, finish_reason: 'stop' }], usage: null });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 6 } });
    expect([engine.numOpen, queue.numRunning]).toEqual([0, 0]);
  });

  test('log probabilities are beside the answer, whole and in the chunks that they belong to', async () => {
    const asked = { ...hello, logprobs: true, top_logprobs: 2 };
    const content = ['one ', 'two ', 'three '].map((token) => ({
      token,
      logprob: -Math.LN2,
      bytes: Array.from(Buffer.from(token)),
      top_logprobs: Array.from(token.slice(0, 2), (letter) => ({
        token: letter,
        logprob: -2,
        bytes: [letter.charCodeAt(0)],
      })),
    }));
    const whole = await (await setUp().post(asked)).json();
    expect(whole).toMatchObject({ choices: [{ logprobs: { content, refusal: null } }] });
    const events = await readEvents(await setUp().post({ ...asked, stream: true }));
    const chunks = events.slice(0, -1).map((chunk) => chunk.choices[0]);
    expect(chunks.flatMap((choice) => choice.logprobs?.content ?? [])).toEqual(content);
    for (const { delta, logprobs } of chunks) {
      expect((logprobs?.content ?? []).map(({ token }: { token: string }) => token).join('')).toBe(delta.content ?? '');
    }
    const without = await setUp().post({ ...hello, top_logprobs: 2 });
    expect(await without.json()).toMatchObject({ error: { param: 'top_logprobs', code: 'invalid_value' } });
    expect((await setUp().post({ ...hello, top_logprobs: 0 })).status).toBe(200);
  });

  test('usage is not in a stream that did not ask for it', async () => {
    const events = await readEvents(await setUp().post({ ...hello, stream: true }));
    expect(events.some((event) => typeof event === 'object' && 'usage' in event)).toBe(false);
  });

  test('content may be a list of text parts, and developer is a system message', async () => {
    const content = [
      { type: 'text', text: 'a ' },
      { type: 'text', text: 'b' },
    ];
    const body = {
      model: 'echo',
      messages: [
        { role: 'developer', content: 'x' },
        { role: 'user', content },
      ],
    };
    expect(await (await setUp().post(body)).json()).toMatchObject({ choices: [{ message: { content: 'a b ' } }] });
  });

  test('silence in a stream is filled with comments that end no event', async () => {
    const { post, stop } = setUp({ keepAliveMs: 20 });
    const response = await post({ ...hello, messages: [{ role: 'user', content: 'a !hang' }], stream: true });
    setTimeout(() => stop.abort(), 100);
    const text = await response.text();
    expect(text).toContain('\n\n: keep-alive\n');
    // A blank line ends an event: each has data, or a strict client would parse nothing as JSON.
    for (const event of text.split('\n\n').slice(0, -1)) expect(event).toMatch(/^data: /m);
  });
});

describe('bad requests are refused with the field at fault', () => {
  const cases: [string, unknown, string | null][] = [
    ['no model', { messages: hello.messages }, 'model'],
    ['no messages', { model: 'echo' }, 'messages'],
    ['empty messages', { ...hello, messages: [] }, 'messages'],
    ['unknown role', { ...hello, messages: [{ role: 'wizard', content: 'x' }] }, 'messages[0].role'],
    ['content missing', { ...hello, messages: [{ role: 'user' }] }, 'messages[0].content'],
    [
      'image part',
      { ...hello, messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'messages[0].content[0].type',
    ],
    ['temperature too high', { ...hello, temperature: 3 }, 'temperature'],
    ['temperature not a number', { ...hello, temperature: 'hot' }, 'temperature'],
    ['top_p zero', { ...hello, top_p: 0 }, 'top_p'],
    ['max_tokens zero', { ...hello, max_tokens: 0 }, 'max_tokens'],
    ['max_tokens a fraction', { ...hello, max_tokens: 1.5 }, 'max_tokens'],
    ['a crowd of stop strings', { ...hello, stop: Array.from({ length: 65 }, (_, n) => `s${n}`) }, 'stop'],
    ['empty stop string', { ...hello, stop: '' }, 'stop'],
    ['stream_options without stream', { ...hello, stream_options: { include_usage: true } }, 'stream_options'],
    ['a list', [], null],
    ['null', null, null],
  ];
  test.each(cases)('%s', async (_name, body, param) => {
    const response = await setUp().post(body);
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: Record<string, unknown> };
    expect(error).toMatchObject({ type: 'invalid_request_error', param });
    expect(Object.keys(error).sort()).toEqual(['code', 'message', 'param', 'type']);
  });

  test('invalid JSON', async () => {
    const response = await setUp().post('{"model": ');
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_json' } });
  });

  test('another content type', async () => {
    const response = await setUp().post('{}', { headers: { 'content-type': 'text/plain' } });
    expect(response.status).toBe(415);
  });

  test('unknown model is a 404 that names the one served', async () => {
    const response = await setUp().post({ ...hello, model: 'gpt-5' });
    expect(response.status).toBe(404);
    const { error } = (await response.json()) as { error: { message: string } };
    expect(error).toMatchObject({ code: 'model_not_found', param: 'model' });
    expect(error.message).toContain('echo');
  });

  test('a body over the limit is a 413', async () => {
    const response = await setUp({ maxBodyBytes: 100 }).post({ ...hello, user: 'x'.repeat(200) });
    expect(response.status).toBe(413);
  });

  test('too long a prompt is context_length_exceeded, streaming too', async () => {
    const long = { ...hello, messages: [{ role: 'user', content: 'w '.repeat(100) }] };
    for (const stream of [false, true]) {
      const response = await setUp().post({ ...long, stream });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { code: 'context_length_exceeded', param: 'messages' } });
    }
  });
});

describe('callers', () => {
  const call = (options: Parameters<typeof setUp>[0], url: string, init: RequestInit) =>
    setUp(options).app.request(url, init);
  const chat = (headers: Record<string, string>, body: unknown = hello): RequestInit => ({
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  const preflight = (origin: string): RequestInit => ({
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type',
    },
  });
  const here = 'http://localhost/v1/chat/completions';
  const container = 'http://host.docker.internal:8080/v1/chat/completions';
  const local = 'http://localhost:3000';
  const remote = 'https://chat.example.com';

  test.each([
    ['origin', here, chat({ origin: remote }), `--allow-origin ${remote}`],
    ['preflight', here, preflight(remote), `--allow-origin ${remote}`],
    ['file', here, chat({ origin: 'null' }), '--allow-origin null'],
    ['host', container, chat({}), '--allow-host host.docker.internal'],
  ])('a foreign %s is refused, with the remedy', async (_name, url, init, remedy) => {
    const response = await call({}, url, init);
    expect(response.status).toBe(403);
    expect(response.headers.has('access-control-allow-origin')).toBe(false);
    expect(((await response.json()) as { error: { message: string } }).error.message).toContain(remedy);
  });

  test.each([
    ['a page of this machine', {}, local],
    ['an allowed page', { allowedOrigins: [remote] }, remote],
    ['any page', { allowedOrigins: ['*'] }, remote],
  ])('%s may ask first, call, and read answers and errors', async (_name, options, origin) => {
    const asked = await call(options, here, preflight(origin));
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-origin')).toBe(origin);
    expect(asked.headers.get('access-control-allow-methods')).toContain('POST');
    expect(asked.headers.get('access-control-allow-headers')).toContain('authorization');
    for (const [body, status] of [
      [hello, 200],
      [{ ...hello, stream: true }, 200],
      [{ ...hello, best_of: 2 }, 400],
    ] as const) {
      const answer = await call(options, here, chat({ origin }, body));
      expect(answer.status).toBe(status);
      expect(answer.headers.get('access-control-allow-origin')).toBe(origin);
    }
  });

  test('an allowed host is answered', async () => {
    expect((await call({ allowedHosts: ['host.docker.internal'] }, container, chat({}))).status).toBe(200);
  });
});

describe('failure and load', () => {
  test('an internal failure is a 500 without its details', async () => {
    const response = await setUp().post({ ...hello, messages: [{ role: 'user', content: '!fail' }] });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret');
  });

  test('a failure in mid-stream is an error frame and no [DONE]', async () => {
    const { post, engine, queue } = setUp();
    const events = await readEvents(
      await post({ ...hello, messages: [{ role: 'user', content: 'a !fail' }], stream: true }),
    );
    expect(events.at(-1)).toMatchObject({ error: { type: 'server_error', code: 'internal_error' } });
    expect(JSON.stringify(events)).not.toContain('secret');
    expect([engine.numOpen, queue.numRunning]).toEqual([0, 0]);
  });

  test.each([
    ['a bug of ours', '!fail', 500, 'internal_error'],
    ['an option that we chose', '!invalid', 500, 'internal_error'],
    ['memory that is not there', '!memory', 503, 'insufficient_memory'],
    ['an engine that is gone', '!closed', 503, 'shutting_down'],
  ])('%s is a server error, before the answer and in the midst of one', async (_name, order, status, code) => {
    const ask = (content: string) => ({ ...hello, messages: [{ role: 'user', content }] });
    const whole = await setUp().post(ask(order));
    expect(whole.status).toBe(status);
    expect(await whole.json()).toMatchObject({ error: { type: 'server_error', code, param: null } });
    const events = await readEvents(await setUp().post({ ...ask(`a ${order}`), stream: true }));
    expect(events.at(-1)).toMatchObject({ error: { type: 'server_error', code } });
  });

  test('the server that stops is a server error in every state', async () => {
    const { post, queue, stop } = setUp({ maxRunning: 2 });
    const hang = { ...hello, messages: [{ role: 'user', content: 'a !hang' }] };
    const whole = post(hang);
    const stream = await post({ ...hang, stream: true });
    const waiting = post(hang);
    const waitingStream = await post({ ...hang, stream: true });
    queue.close();
    const late = post(hang);
    const shuttingDown = { error: { type: 'server_error', code: 'shutting_down' } };
    for (const refused of [await waiting, await late]) {
      expect(refused.status).toBe(503);
      expect(await refused.json()).toMatchObject(shuttingDown);
    }
    expect(await readEvents(waitingStream)).toMatchObject([shuttingDown]);
    stop.abort();
    expect((await whole).status).toBe(503);
    expect(await (await whole).json()).toMatchObject(shuttingDown);
    expect((await readEvents(stream)).at(-1)).toMatchObject(shuttingDown);
  });

  test('what the template refuses is the fault of the messages', async () => {
    const response = await setUp().post({ ...hello, messages: [{ role: 'user', content: '!refuse' }] });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error', param: 'messages' } });
  });

  test('one over the limit waits, one over the queue is refused with Retry-After', async () => {
    const { post, queue, stop, app } = setUp({ maxRunning: 1, maxQueued: 1 });
    const hang = { ...hello, messages: [{ role: 'user', content: '!hang' }] };
    const running = post(hang);
    const waiting = post(hello);
    await delay(10);
    expect(await (await app.request('/health')).json()).toMatchObject({ running: 1, queued: 1 });
    for (const stream of [false, true]) {
      const refused = await post({ ...hello, stream });
      expect(refused.status).toBe(429);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(await refused.json()).toMatchObject({ error: { type: 'rate_limit_error', code: 'queue_full' } });
    }
    stop.abort();
    expect([(await running).status, (await waiting).status]).toEqual([503, 503]);
    expect([queue.numRunning, queue.numQueued]).toEqual([0, 0]);
  });

  test('waiting has an end: 429, or the error in a stream that has begun', async () => {
    const { post, queue, stop } = setUp({ maxRunning: 1, maxWaitMs: 20 });
    const running = post({ ...hello, messages: [{ role: 'user', content: '!hang' }] });
    const whole = post(hello);
    const stream = post({ ...hello, stream: true });
    const tooLong = { error: { type: 'rate_limit_error', code: 'queue_timeout' } };
    expect((await whole).status).toBe(429);
    expect(Number((await whole).headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await (await whole).json()).toMatchObject(tooLong);
    expect(await readEvents(await stream)).toMatchObject([tooLong]);
    expect([queue.numRunning, queue.numQueued]).toEqual([1, 0]);
    stop.abort();
    await running;
  });

  test.each([{ maxRunning: 0 }, { maxQueued: -1 }, { maxQueued: 1.5 }, { maxWaitMs: Number.POSITIVE_INFINITY }])(
    'a queue with %j is refused',
    (options) => {
      expect(() => new RequestQueue(options)).toThrow(new RegExp(Object.keys(options)[0]!));
    },
  );

  test('the place of one that ends goes to the first who waits', async () => {
    const { post } = setUp({ maxRunning: 1, maxQueued: 3 });
    const responses = await Promise.all([post(hello), post(hello), post(hello), post(hello)]);
    expect(responses.map((response) => response.status)).toEqual([200, 200, 200, 200]);
  });

  test('a client that leaves frees its place: running, waiting, and a stream never read', async () => {
    const { post, engine, queue } = setUp({ maxRunning: 1, maxQueued: 1 });
    const hang = { ...hello, messages: [{ role: 'user', content: '!hang' }] };
    const first = new AbortController();
    const second = new AbortController();
    const running = post(hang, { signal: first.signal });
    const waiting = post(hang, { signal: second.signal });
    await delay(10);
    second.abort();
    await delay(10);
    expect([engine.numOpen, queue.numRunning, queue.numQueued]).toEqual([1, 1, 0]);
    first.abort();
    await Promise.all([running, waiting]);
    const stream = await post({ ...hang, stream: true });
    await stream.body?.cancel();
    await until(() => engine.numOpen === 0);
    expect([engine.numOpen, queue.numRunning, queue.numQueued]).toEqual([0, 0, 0]);
  });
});
