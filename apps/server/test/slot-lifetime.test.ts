/**
 * A slot never outlives its request, whatever the client does, over real sockets. The table has every state of a request and every
 * end; the property takes them in random order. Replay a failure with CTKVR_TEST_SEED=<the seed it names>.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type ListenOptions, listen, type RunningServer } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { chatBytes, RawClient } from './raw-client.js';
import { until } from './until.js';

const open: RunningServer[] = [];
const clients: RawClient[] = [];

async function start(options: ListenOptions = {}) {
  const engine = new EchoEngine({ stepped: true });
  const logged: Record<string, unknown>[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => logged.push(JSON.parse(line)) });
  let openAtRelease: number | null = null;
  const release = async () => {
    openAtRelease = engine.numOpen + engine.numPreparing;
  };
  const others = process.listeners('SIGTERM');
  const server = await listen(engine, { port: 0, logger, ...options }, release);
  open.push(server);
  const [onSignal] = process.listeners('SIGTERM').filter((listener) => !others.includes(listener));
  const client = () => {
    const made = new RawClient(server.port);
    clients.push(made);
    return made;
  };
  const health = async () => {
    const response = await fetch(`${server.url}/health`, { headers: { connection: 'close' } });
    return (await response.json()) as { status: string; running: number; queued: number };
  };
  return {
    engine,
    server,
    client,
    health,
    logged,
    openAtRelease: () => openAtRelease,
    /** What the server does on SIGTERM; the test's own process has other listeners, which would end it. */
    terminate: () => onSignal?.('SIGTERM'),
  };
}
type Running = Awaited<ReturnType<typeof start>>;

// @hono/node-server tells of its own troubles there.
const printed = [vi.spyOn(console, 'error'), vi.spyOn(console, 'info')];

afterEach(async () => {
  for (const spy of printed) expect(spy).not.toHaveBeenCalled();
  for (const client of clients.splice(0)) client.close();
  await Promise.all(open.splice(0).map((server) => server.close()));
});

/** Waits until nothing runs or waits, and a request is answered again. */
async function expectAllFree({ engine, client, health }: Running) {
  for (let tries = 0; ; tries += 1) {
    const { running, queued } = await health();
    if (running === 0 && queued === 0) break;
    if (tries > 1000) throw new Error(`${running} run, ${queued} wait`);
    await nextTurn();
  }
  expect(engine.numOpen).toBe(0);
  engine.runFreely();
  const next = client();
  next.send(chatBytes('and on'));
  await until(() => next.received.includes('and on'));
}

const stream = { stream: true, max_tokens: 40 };

/** Brings one client's request into a state. A server with one place; what else is needed is another client's. */
const states: Record<string, (running: Running, client: RawClient) => Promise<void>> = {
  async 'half its headers sent'(_running, client) {
    client.send(chatBytes('x').slice(0, 40));
    await nextTurn();
  },
  async 'half its body sent'(_running, client) {
    client.send(chatBytes('x').slice(0, -10));
    await nextTurn();
  },
  async 'half a chunked body sent'(_running, client) {
    client.send(
      chatBytes('x')
        .replace(/content-length: \d+/, 'transfer-encoding: chunked')
        .replace('\r\n{', '\r\n80\r\n{'),
    );
    await nextTurn();
  },
  async 'being tokenized'({ engine }, client) {
    engine.prepareMs = 50;
    client.send(chatBytes('x'));
    await until(() => engine.numPreparing === 1);
  },
  async waiting({ engine, health, client: another }, client) {
    another().send(chatBytes('!hang', stream));
    await until(() => engine.numOpen === 1);
    client.send(chatBytes('x y z', stream));
    while ((await health()).queued === 0) await nextTurn();
    clients.at(-1)?.close();
  },
  async 'opening, before any header of the answer'({ engine }, client) {
    client.send(chatBytes('x y z', stream));
    await until(() => engine.numOpen === 1);
  },
  async 'answering whole'({ engine }, client) {
    client.send(chatBytes('x !hang'));
    await until(() => engine.numOpen === 1);
    for (let steps = 0; steps < 4; steps += 1) {
      engine.step();
      await nextTurn();
    }
  },
  async streaming({ engine }, client) {
    client.send(chatBytes('first second !hang', stream));
    while (!client.received.includes('first')) {
      engine.step();
      await nextTurn();
    }
  },
  async 'streaming to a client that does not read'({ engine }, client) {
    client.send(chatBytes('!long !long !hang', stream));
    while (client.received === '') {
      engine.step();
      await nextTurn();
    }
    client.stopReading();
    for (let steps = 0; steps < 10; steps += 1) {
      engine.step();
      await nextTurn();
    }
  },
  async 'pipelined behind a stream'({ engine }, client) {
    client.send(chatBytes('first !hang', stream) + chatBytes('x !hang', stream) + chatBytes('y', stream));
    while (!client.received.includes('first')) {
      engine.step();
      await nextTurn();
    }
  },
};

const ends: Record<string, (running: Running, client: RawClient) => void> = {
  close: (_running, client) => client.close(),
  reset: (_running, client) => client.reset(),
  'half-close': (_running, client) => client.halfClose(),
};

describe.each(Object.keys(states))('a request that is %s', (state) => {
  test.each(Object.keys(ends))('ends with its client: %s', async (end) => {
    const running = await start({ maxRunning: 1 });
    const client = running.client();
    await states[state]!(running, client);
    ends[end]!(running, client);
    await expectAllFree(running);
    expect(JSON.stringify(running.logged)).not.toContain('stack');
  });

  test('ends with the server, before what it works on is released', async () => {
    const running = await start({ maxRunning: 1, shutdownGraceMs: 5 });
    await states[state]!(running, running.client());
    await running.server.close();
    expect([running.engine.numOpen, running.openAtRelease()]).toEqual([0, 0]);
  });

  test('ends when both go at once, before what it works on is released', async () => {
    const running = await start({ maxRunning: 1 });
    const client = running.client();
    await states[state]!(running, client);
    for (const one of clients) one.reset();
    await running.server.close();
    expect([running.engine.numOpen, running.openAtRelease()]).toEqual([0, 0]);
  });
});

test('two identical streams on one socket, closed in the midst of the first', async () => {
  const running = await start();
  running.engine.runFreely();
  // More than node:http takes of a response that waits for its turn, after which it used to be waited for without end.
  const words = Array.from({ length: 40 }, () => `word${'d'.repeat(1000)}`).join(' ');
  for (let round = 0; round < 8; round += 1) {
    const client = running.client();
    client.send(chatBytes(words, stream).repeat(2));
    await until(() => client.received.includes('word'));
    client.close();
  }
  await expectAllFree(running);
});

test('a client that does not read holds up nobody: not itself, not whoever waits, not those on its own socket', async () => {
  const running = await start({ maxRunning: 1 });
  running.engine.runFreely();
  const lazy = running.client();
  lazy.stopReading();
  lazy.send(chatBytes('!long !long !long', stream) + chatBytes('!long !long', stream) + chatBytes('last one', stream));
  const other = running.client();
  other.send(chatBytes('not me', stream));
  await until(() => other.received.includes('[DONE]'));
  await expectAllFree(running);
  lazy.readOn();
  await until(() => lazy.received.includes('last') && lazy.received.endsWith('[DONE]\n\n\r\n0\r\n\r\n'));
});

type Action =
  | { readonly type: 'send'; readonly client: number; readonly words: readonly string[]; readonly stream: boolean }
  | { readonly type: 'sendPart'; readonly client: number; readonly share: number }
  | { readonly type: 'halfClose' | 'close' | 'reset' | 'stopReading' | 'readOn'; readonly client: number }
  | { readonly type: 'step' | 'wait'; readonly n: number }
  | { readonly type: 'signal' };

const clientNumber = fc.integer({ min: 0, max: 3 });
const word = fc.constantFrom('a', 'b', 'c', '!hang', '!fail', '!long', '!refuse');
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('send' as const),
      client: clientNumber,
      words: fc.array(word, { minLength: 1, maxLength: 5 }),
      stream: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('sendPart' as const),
      client: clientNumber,
      share: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constantFrom('halfClose', 'close', 'reset', 'stopReading', 'readOn'),
      client: clientNumber,
    }),
  },
  { weight: 8, arbitrary: fc.record({ type: fc.constantFrom('step', 'wait'), n: fc.integer({ min: 0, max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('signal' as const) }) },
);

const send = (client: number, words: string[], stream = true): Action => ({ type: 'send', client, words, stream });
/**
 * Found by chance. node:http reads no more from a connection whose answers pile up behind one that is not written, and is told nothing of
 * its end then.
 */
const pilingUp: Action[] = [
  send(2, ['!hang', 'c', 'a', 'a']),
  send(2, ['!long', 'a']),
  { type: 'wait', n: 0 },
  { type: 'wait', n: 1 },
  { type: 'step', n: 4 },
  { type: 'step', n: 0 },
  send(2, ['!fail', '!long']),
  { type: 'step', n: 4 },
  send(0, ['!refuse', '!long', '!long'], false),
  { type: 'wait', n: 2 },
  send(2, ['!long']),
];

test('random interleavings of pipelining, half-close, abort, error and shutdown leave nothing running', async () => {
  const property = fc.asyncProperty(
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 0, max: 2 }),
    fc.array(action, { minLength: 1, maxLength: 30 }),
    async (maxRunning, maxQueued, actions) => {
      const running = await start({ maxRunning, maxQueued, shutdownGraceMs: 3 });
      const { engine, server, health } = running;
      const mine: RawClient[] = [];
      const clientOf = (number: number) => {
        mine[number] ??= running.client();
        return mine[number];
      };
      let stopping = false;
      for (const one of actions) {
        if (one.type === 'send') {
          clientOf(one.client).send(chatBytes(one.words.join(' '), { stream: one.stream }));
        } else if (one.type === 'sendPart') {
          const bytes = chatBytes('a b', stream);
          clientOf(one.client).send(bytes.slice(0, Math.ceil(bytes.length * one.share)));
        } else if (one.type === 'step') {
          engine.step(one.n);
        } else if (one.type === 'wait') {
          for (let turns = 0; turns < one.n; turns += 1) await nextTurn();
        } else if (one.type === 'signal') {
          running.terminate(); // the second one does not wait
          stopping = true;
        } else if ('client' in one) {
          clientOf(one.client)[one.type]();
          if (one.type === 'close' || one.type === 'reset') delete mine[one.client]; // the next request has a new connection
        }
      }
      if (!stopping) {
        // What health says is what the engine does.
        engine.runFreely();
        let said = await health();
        for (
          let tries = 0;
          said.running !== engine.numOpen || (said.queued > 0 && said.running < maxRunning);
          tries += 1
        ) {
          if (tries > 1000) throw new Error(`health says ${JSON.stringify(said)}, ${engine.numOpen} run`);
          said = await health();
        }
      }
      for (const client of clients.splice(0)) client.close();
      if (!stopping) await expectAllFree(running);
      await server.close();
      expect([engine.numOpen, running.openAtRelease()]).toEqual([0, 0]);
      expect(engine.maxOpen).toBeLessThanOrEqual(maxRunning);
    },
  );
  await fc.assert(property, { ...propertyParameters(300), examples: [[3, 0, pilingUp]], endOnFailure: true });
}, 240_000);
