/** Several answers to one prompt: `n` of chat completions and completions. */
import { describe, expect, test } from 'vitest';
import type { ChatEngine } from '../src/chat-engine.js';
import type { GenerationRequest } from '../src/generation-request.js';
import { createApp, RequestQueue, type RequestQueueOptions } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { readEvents } from './read-events.js';
import { until } from './until.js';

class RecordingEngine extends EchoEngine implements ChatEngine {
  readonly requests: GenerationRequest[] = [];

  override prepare(request: GenerationRequest) {
    this.requests.push(request);
    return super.prepare(request);
  }
}

interface Asked {
  readonly engine?: EchoEngine;
  readonly queue?: Partial<RequestQueueOptions>;
  readonly signal?: AbortSignal;
}

async function post(route: string, body: object, { engine = new EchoEngine(), queue = {}, signal }: Asked = {}) {
  return await createApp({ engine, queue: new RequestQueue(queue) }).request(route, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'echo', ...body }),
    ...(signal === undefined ? {} : { signal }),
  });
}

const CHAT = '/v1/chat/completions';
const say = (content: string, more: object = {}) => ({ messages: [{ role: 'user', content }], ...more });

describe.each([
  { route: CHAT, body: say('one two'), choice: { message: { content: 'one two ' } } },
  { route: '/v1/completions', body: { prompt: 'one two' }, choice: { text: 'one two ' } },
])('$route', ({ route, body, choice }) => {
  test('has as many choices as asked for, and counts the prompt once', async () => {
    const response = await post(route, { ...body, n: 3 });
    expect(await response.json()).toMatchObject({
      choices: [0, 1, 2].map((index) => ({ ...choice, index, finish_reason: 'stop' })),
      usage: { prompt_tokens: 2, completion_tokens: 6, total_tokens: 8, prompt_tokens_details: { cached_tokens: 0 } },
    });
  });

  test('streams them with their index: each has its finish, all have one usage and one end', async () => {
    const more = { n: 3, stream: true, stream_options: { include_usage: true } };
    const events = await readEvents(await post(route, { ...body, ...more }));
    expect(events.filter((event) => event === '[DONE]')).toHaveLength(1);
    expect(events.at(-1)).toBe('[DONE]');
    const chunks = events.slice(0, -1);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks.filter(({ usage }) => usage != null)).toEqual([chunks.at(-1)]);
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 2, completion_tokens: 6, total_tokens: 8 },
    });
    for (const index of [0, 1, 2]) {
      const own = chunks.flatMap(({ choices }) => choices).filter((one) => one.index === index);
      expect(own.map((one) => one.text ?? one.delta.content ?? '').join('')).toBe('one two ');
      expect(own.map((one) => one.finish_reason)).toEqual([...own.slice(1).map(() => null), 'stop']);
    }
  });

  test.each([0, 17, 1.5, 'two'])('n: %j is refused', async (n) => {
    const response = await post(route, { ...body, n });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: 'n', code: 'invalid_value' } });
  });
});

test('seeds follow one another, so that each choice is the single answer of its seed; without one they are drawn', async () => {
  const engine = new RecordingEngine();
  await post(CHAT, say('one', { n: 3, seed: 0xffff_fffe }), { engine });
  expect(engine.requests.map(({ seed }) => seed)).toEqual([0xffff_fffe, 0xffff_ffff, 0]);
  const [first, ...others] = engine.requests;
  for (const other of others) expect({ ...other, seed: 0 }).toEqual({ ...first, seed: 0 });
  await post(CHAT, say('one', { n: 2 }), { engine });
  expect(engine.requests.slice(3).map(({ seed }) => seed)).toEqual([null, null]);
});

test('the others begin when the first has read the prompt', async () => {
  const engine = new EchoEngine({ stepped: true });
  const response = post(CHAT, say('one two', { n: 3 }), { engine });
  await until(() => engine.numOpen === 1);
  engine.step(); // opened
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(engine.numOpen).toBe(1);
  engine.step(); // its first word
  await until(() => engine.numOpen === 3);
  engine.runFreely();
  expect((await response).status).toBe(200);
});

test('each takes a place of the queue', async () => {
  const engine = new EchoEngine();
  expect((await post(CHAT, say('one two', { n: 3 }), { engine, queue: { maxRunning: 1 } })).status).toBe(200);
  expect(engine.maxOpen).toBe(1);
  const full = await post(CHAT, say('one two', { n: 4 }), { engine, queue: { maxRunning: 1, maxQueued: 1 } });
  expect(full.status).toBe(429);
  expect(engine.numOpen).toBe(0);
});

test('when one fails, all end, and it is told once', async () => {
  const engine = new EchoEngine();
  expect((await post(CHAT, say('one !fail', { n: 3 }), { engine })).status).toBe(500);
  expect(engine.numOpen).toBe(0);
  const events = await readEvents(await post(CHAT, say('one !fail', { n: 3, stream: true }), { engine }));
  expect(events.filter(({ error }) => error !== undefined)).toEqual([events.at(-1)]);
  expect(events).not.toContain('[DONE]');
  await until(() => engine.numOpen === 0);
});

test('when the client leaves, all end', async () => {
  const engine = new EchoEngine();
  const client = new AbortController();
  const response = post(CHAT, say('one !hang', { n: 3 }), { engine, signal: client.signal });
  await until(() => engine.numOpen === 3);
  client.abort();
  await response.then(undefined, () => {});
  await until(() => engine.numOpen === 0);
});
