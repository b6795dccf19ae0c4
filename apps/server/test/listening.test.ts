/** A listening server, sockets and the official OpenAI client, on the engine without a model: what `app.request()` cannot show. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import OpenAI from 'openai';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { type ListenOptions, listen, type RunningServer } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { chatBytes, RawClient } from './raw-client.js';
import { until } from './until.js';

const open: RunningServer[] = [];

async function start(options: ListenOptions = {}) {
  const engine = new EchoEngine();
  let released = 0;
  const server = await listen(
    engine,
    { port: 0, handleSignals: false, logger: pino({ level: 'silent' }), ...options },
    async () => {
      released += 1;
    },
  );
  open.push(server);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  return { engine, server, client, timesReleased: () => released };
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

const say = (content: string) => ({ model: 'echo', messages: [{ role: 'user' as const, content }] });

describe('the OpenAI client', () => {
  test('reads a stream, and throws the error that comes in the middle of one', async () => {
    const { client } = await start();
    let text = '';
    const stream = await client.chat.completions.create({ ...say('one two !fail'), stream: true });
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    })();
    await expect(reading).rejects.toMatchObject({ code: 'internal_error' });
    expect(text).toBe('one two ');
  });

  test('throws the error that comes in the middle of a response', async () => {
    const { client } = await start();
    let text = '';
    const stream = await client.responses.create({ model: 'echo', input: 'one two !fail', stream: true });
    const reading = (async () => {
      for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'internal_error' });
    expect(text).toBe('one two ');
  });

  test('leaving a stream, a whole answer and the queue each free the place', async () => {
    const { client, engine, server } = await start({ maxRunning: 1 });
    const health = async () => (await (await fetch(`${server.url}/health`)).json()) as { queued: number };
    const stream = await client.chat.completions.create({ ...say('one !hang'), stream: true });
    const waiting = new AbortController();
    const queued = client.chat.completions.create(say('x'), { signal: waiting.signal });
    const left = expect(queued).rejects.toThrow(OpenAI.APIUserAbortError);
    while ((await health()).queued === 0) await delay(5);
    waiting.abort();
    await left;
    while ((await health()).queued === 1) await delay(5);
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content === 'one ') break;
    await until(() => engine.numOpen === 0);

    const whole = new AbortController();
    const answer = client.chat.completions.create(say('!hang'), { signal: whole.signal });
    const failed = expect(answer).rejects.toThrow(OpenAI.APIUserAbortError);
    await until(() => engine.numOpen === 1);
    whole.abort();
    await failed;
    await until(() => engine.numOpen === 0);
    expect(await health()).toMatchObject({ running: 0, queued: 0 });
  });

  test('waits as Retry-After says and tries again', async () => {
    const { engine, server } = await start({ maxRunning: 1, maxQueued: 0 });
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 2 });
    const first = await client.chat.completions.create({ ...say('!hang'), stream: true });
    const second = client.chat.completions.create(say('after all'));
    await delay(100);
    first.controller.abort();
    await until(() => engine.numOpen === 0);
    expect((await second).choices[0]?.message.content).toBe('after all ');
  });
});

describe('load', () => {
  test('fifty at once are answered, on a socket each or on one, without a warning', async () => {
    const warned: Error[] = [];
    const onWarning = (warning: Error) => warned.push(warning);
    process.on('warning', onWarning);
    const { client, server } = await start();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => client.chat.completions.create(say(`number ${n}`))),
    );
    expect(answers.map((answer) => answer.choices[0]?.message.content)).toEqual(
      Array.from({ length: 50 }, (_, n) => `number ${n} `),
    );
    const raw = new RawClient(server.port);
    raw.send(Array.from({ length: 50 }, (_, n) => chatBytes(`number ${n}`)).join(''));
    await until(() => raw.received.includes('number 49 '));
    raw.close();
    process.off('warning', onWarning);
    expect(warned).toEqual([]);
  });

  test('beyond the queue the client throws a rate limit error; nobody who waits is lost', async () => {
    const { client, engine, server } = await start({ maxRunning: 1, maxQueued: 3 });
    const first = await client.chat.completions.create({ ...say('!hang'), stream: true });
    const refused: InstanceType<typeof OpenAI.RateLimitError>[] = [];
    const others = Array.from({ length: 50 }, () =>
      client.chat.completions.create(say('x')).catch((error) => refused.push(error)),
    );
    await until(() => refused.length === 47);
    expect(await (await fetch(`${server.url}/health`)).json()).toMatchObject({ running: 1, queued: 3 });
    for (const error of refused) {
      expect(error).toBeInstanceOf(OpenAI.RateLimitError);
      expect(error).toMatchObject({ status: 429, type: 'rate_limit_error', code: 'queue_full' });
      expect(Number(error.headers.get('retry-after'))).toBeGreaterThan(0);
    }
    first.controller.abort();
    await Promise.all(others);
    expect([refused.length, engine.numOpen]).toEqual([47, 0]);
  });

  test('a stream that has to wait has its headers at once, and then its answer', async () => {
    const { client, engine } = await start({ maxRunning: 1 });
    const first = await client.chat.completions.create({ ...say('!hang'), stream: true });
    const second = await client.chat.completions.create({ ...say('at last'), stream: true });
    expect(engine.numOpen).toBe(1);
    first.controller.abort();
    let text = '';
    for await (const chunk of second) text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe('at last ');
  });
});

describe('the log of a client that leaves is lines at info, without a stack', () => {
  const logged = () => {
    const lines: Record<string, unknown>[] = [];
    return { lines, logger: pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) }) };
  };

  test.each([
    ['reset', (client: RawClient) => client.reset()],
    ['closed', (client: RawClient) => client.close()],
    ['half-closed', (client: RawClient) => client.halfClose()],
  ])('in an upload that is %s: one', async (_name, leave) => {
    const { lines, logger } = logged();
    const { server } = await start({ logger });
    const client = new RawClient(server.port);
    client.send(chatBytes('x'.repeat(100_000)).slice(0, -50_000));
    await delay(20); // until the server reads it
    leave(client);
    await until(() => lines.length === 2);
    expect(lines[1]).toMatchObject({ level: 30, outcome: 'client_left', msg: 'ended' });
    expect(lines[1]).not.toHaveProperty('err');
    client.close();
  });

  test('a real error keeps its stack', async () => {
    const { lines, logger } = logged();
    const { client } = await start({ logger });
    await expect(client.chat.completions.create(say('!fail'))).rejects.toMatchObject({ status: 500 });
    const errors = lines.filter((line) => line.level === 50);
    expect(errors).toMatchObject([
      { err: { message: 'a secret detail', stack: expect.stringContaining('echo-engine') } },
    ]);
    expect(lines.at(-1)).toMatchObject({ level: 30, outcome: 'internal_error', msg: 'ended' });
  });
});

describe('stopping', () => {
  test('lets running answers end, refuses new ones, releases once', async () => {
    const { client, engine, server, timesReleased } = await start({ shutdownGraceMs: 50 });
    const stream = await client.chat.completions.create({ ...say('one !hang'), stream: true });
    await until(() => engine.numOpen === 1);
    const closing = server.close();
    expect(server.close()).toBe(closing);
    await expect(client.models.list()).rejects.toBeInstanceOf(OpenAI.APIConnectionError);
    // after the grace the request is cancelled, and the client is told so
    const reading = (async () => {
      for await (const _chunk of stream);
    })();
    await expect(reading).rejects.toMatchObject({ type: 'server_error', code: 'shutting_down' });
    await closing;
    expect(await server.closed).toBeNull();
    expect([engine.numOpen, timesReleased()]).toEqual([0, 1]);
  });

  test('does not wait for connections that are kept alive or were never used', async () => {
    const { server } = await start();
    await (await fetch(`${server.url}/health`)).json(); // fetch keeps the connection
    const unused = connect(server.port, '127.0.0.1').on('error', () => {});
    await once(unused, 'connect');
    await delay(20); // until the server has taken it
    const startedAt = performance.now();
    await server.close();
    expect(performance.now() - startedAt).toBeLessThan(2000);
  });

  test('a signal stops it, and its listeners go with it', async () => {
    const before = process.listenerCount('SIGTERM');
    const { server } = await start({ handleSignals: true });
    expect(process.listenerCount('SIGTERM')).toBe(before + 1);
    process.kill(process.pid, 'SIGTERM');
    expect(await server.closed).toBe('SIGTERM');
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });

  test('an option out of range is a typed error, and what was loaded is released', async () => {
    let released = 0;
    const listening = listen(new EchoEngine(), { port: 0, maxRunning: 0 }, async () => {
      released += 1;
    });
    await expect(listening).rejects.toMatchObject({ code: 'CTKVR_INVALID_OPTION' });
    expect(released).toBe(1);
  });

  test('a port that is taken is a typed error, and what was loaded is released', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    let released = 0;
    const listening = listen(new EchoEngine(), { port }, async () => {
      released += 1;
    });
    await expect(listening).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      message: expect.stringContaining(String(port)),
    });
    expect(released).toBe(1);
    other.close();
  });
});
