/** Calls between two processes, on a connection in memory: order, backpressure, aborts, errors, and a peer that is gone. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CtkvrError } from '@ctkvr/core';
import { createRandom, propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ApiError } from '../src/api-error.js';
import { forward } from '../src/remote/forward.js';
import { STREAM_WINDOW } from '../src/remote/messages.js';
import { RemoteCaller } from '../src/remote/remote-caller.js';
import { serveCalls } from '../src/remote/serve-calls.js';
import { InMemoryConnection } from './in-memory-channel.js';

/** What the tests call. Counts what runs, so that a test sees what was left behind. */
class Counting {
  numOpen = 0;
  /** Items that were made for streams. */
  numMade = 0;

  async echo(value: unknown): Promise<unknown> {
    await nextTurn();
    return value;
  }

  async fail(error: unknown): Promise<void> {
    throw error;
  }

  async raise(kind: 'api' | 'ctkvr' | 'plain'): Promise<void> {
    if (kind === 'api') throw new ApiError(400, 'no such field', { param: 'fields[1]', code: 'invalid_value' });
    if (kind === 'plain') throw Object.assign(new TypeError('x is not a function'), { name: 'TypeError' });
    const options = { fields: { needed: 9, path: 'a' }, remedy: 'ask for less', cause: new Error('below') };
    throw new CtkvrError('CTKVR_OUT_OF_MEMORY', 'no room', options);
  }

  async untilAborted(options: { readonly label: string; readonly signal: AbortSignal }): Promise<string> {
    return await this.#waiting(options.signal, options.label);
  }

  async waitFor(signal: AbortSignal): Promise<string> {
    return await this.#waiting(signal, '');
  }

  async *count(numItems: number, signal: AbortSignal): AsyncGenerator<number, void, undefined> {
    this.numOpen += 1;
    try {
      for (let i = 0; i < numItems; i += 1) {
        await nextTurn();
        signal.throwIfAborted();
        this.numMade += 1;
        yield i;
      }
    } finally {
      await nextTurn();
      this.numOpen -= 1;
    }
  }

  async *failAfter(numItems: number): AsyncGenerator<number, void, undefined> {
    for (let i = 0; i < numItems; i += 1) yield i;
    throw new CtkvrError('CTKVR_BUSY', 'enough');
  }

  async #waiting(signal: AbortSignal, label: string): Promise<string> {
    this.numOpen += 1;
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    await nextTurn();
    this.numOpen -= 1;
    return `${label} ${signal.reason.name} ${signal.reason.message}`;
  }
}

type Method = 'echo' | 'fail' | 'raise' | 'untilAborted' | 'waitFor' | 'count' | 'failAfter';

function connect() {
  const connection = new InMemoryConnection();
  const target = new Counting();
  serveCalls(connection.server, { counting: target });
  const caller = new RemoteCaller(connection.caller);
  const remote = forward<Pick<Counting, Method>>(caller, 'counting', {
    echo: 'call',
    fail: 'call',
    raise: 'call',
    untilAborted: 'call',
    waitFor: 'call',
    count: 'stream',
    failAfter: 'stream',
  });
  return { connection, target, caller, remote };
}

const never = new AbortController().signal;

async function all(items: AsyncIterable<number>): Promise<number[]> {
  const list: number[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe('a call', () => {
  test('returns plain data as it was, typed arrays too', async () => {
    const { connection, remote } = connect();
    using _ = connection.deliverAll();
    const value = { text: 'a\ud800', list: [1, null, undefined], tokens: Int32Array.of(1, -2), big: 2n ** 70n };
    expect(await remote.echo(value)).toEqual(value);
  });

  test('throws the error that the method threw, of its own kind', async () => {
    const { connection, remote } = connect();
    using _ = connection.deliverAll();
    const api = await remote.raise('api').catch((error: unknown) => error);
    expect(api).toBeInstanceOf(ApiError);
    expect(api).toMatchObject({ status: 400, param: 'fields[1]', code: 'invalid_value', message: 'no such field' });
    const ctkvr = await remote.raise('ctkvr').catch((error: unknown) => error);
    expect(CtkvrError.isInstance(ctkvr)).toBe(true);
    expect(ctkvr).toMatchObject({
      code: 'CTKVR_OUT_OF_MEMORY',
      message: 'no room; ask for less',
      remedy: 'ask for less',
      fields: { needed: 9, path: 'a' },
      cause: { message: 'below' },
      stack: expect.stringContaining('raise'),
    });
    await expect(remote.raise('plain')).rejects.toMatchObject({ name: 'TypeError', message: 'x is not a function' });
    await expect(remote.fail('a text')).rejects.toMatchObject({ message: 'a text' });
  });

  test('with what cannot be copied fails by itself, in both directions', async () => {
    const { connection, remote, caller } = connect();
    using _ = connection.deliverAll();
    const other = remote.echo('fine');
    await expect(remote.echo(() => {})).rejects.toMatchObject({ code: 'CTKVR_INVALID_OPTION', fields: { op: 'echo' } });
    expect(await other).toBe('fine');
    const missing = caller.call({ service: 'counting', method: 'none' }, []);
    await expect(missing).rejects.toMatchObject({ code: 'CTKVR_INTERNAL' });
  });

  test('is aborted over there by the signal that it was given, alone or in options, and ends when the work does', async () => {
    const { connection, target, remote } = connect();
    using _ = connection.deliverAll();
    for (const start of [
      (signal: AbortSignal) => remote.waitFor(signal),
      (signal: AbortSignal) => remote.untilAborted({ label: 'x', signal }),
    ]) {
      const leave = new AbortController();
      const answer = start(leave.signal);
      while (target.numOpen === 0) await nextTurn();
      leave.abort(new ApiError(503, 'stopping', { code: 'shutting_down' }));
      expect(await answer).toMatch(/ApiError stopping$/);
      expect(target.numOpen).toBe(0);
    }
    expect(await remote.waitFor(AbortSignal.abort())).toMatch(/AbortError/);
  });
});

describe('a stream', () => {
  test('gives its items in order, then its end or its error', async () => {
    const { connection, remote } = connect();
    using _ = connection.deliverAll();
    expect(await all(remote.count(100, never))).toEqual(Array.from({ length: 100 }, (_, i) => i));
    const read: number[] = [];
    const reading = (async () => {
      for await (const item of remote.failAfter(3)) read.push(item);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'CTKVR_BUSY' });
    expect(read).toEqual([0, 1, 2]);
  });

  test('makes no more than its window ahead of its reader', async () => {
    const { connection, target, remote } = connect();
    using _ = connection.deliverAll();
    const items = remote.count(1000, never);
    for (let numRead = 1; numRead <= 200; numRead += 1) {
      await items.next();
      if (numRead % 50 === 0) for (let turn = 0; turn < 200; turn += 1) await nextTurn();
      expect(target.numMade).toBeLessThanOrEqual(numRead + STREAM_WINDOW);
    }
    await items.return(undefined);
    expect(target.numOpen).toBe(0);
  });

  test('that nobody reads is never begun', async () => {
    const { connection, target, remote } = connect();
    using _ = connection.deliverAll();
    await remote.count(5, never).return(undefined);
    expect([target.numMade, connection.caller.posted.length]).toEqual([0, 0]);
  });
});

test('a peer that is gone fails what is under way and what comes', async () => {
  const { connection, caller, remote } = connect();
  using _ = connection.deliverAll();
  const items = remote.count(1000, never);
  await items.next();
  const waiting = remote.waitFor(never);
  const gone = new CtkvrError('CTKVR_ENGINE_LOST', 'killed');
  caller.end(gone);
  await expect(waiting).rejects.toBe(gone);
  await expect(all(items)).rejects.toBe(gone);
  await expect(remote.echo(1)).rejects.toBe(gone);
  await expect(remote.count(1, never).next()).rejects.toBe(gone);
});

test('random interleavings of calls, streams, aborts, readers that leave and a peer that dies leave nothing hanging', async () => {
  const { seed, numRuns, ...more } = propertyParameters(150);
  const run = async (caseSeed: number, dies: boolean) => {
    const { connection, target, caller, remote } = connect();
    const random = createRandom(caseSeed);
    const below = (limit: number) => Math.floor(random.uniform() * limit);
    const gone = new CtkvrError('CTKVR_ENGINE_LOST', 'killed');
    const use = async (leave: AbortController) => {
      const numItems = below(100);
      const numRead = random.uniform() < 0.3 ? below(numItems + 1) : Number.POSITIVE_INFINITY;
      if (random.uniform() < 0.3) return expect(await remote.echo(numItems)).toBe(numItems);
      let next = 0;
      for await (const item of remote.count(numItems, leave.signal)) {
        expect(item).toBe(next);
        next += 1;
        if (next >= numRead) return;
      }
      expect(next).toBe(numItems); // the end comes after all of them
    };
    const users = Array.from({ length: 8 }, () => new AbortController());
    let numSettled = 0;
    const uses = users.map(async (leave) => {
      try {
        await use(leave);
      } catch (error) {
        const isExpected = error === gone || (leave.signal.aborted && (error as Error).name === 'AbortError');
        if (!isExpected) throw error;
      } finally {
        numSettled += 1;
      }
    });
    const settled = Promise.all(uses);
    settled.catch(() => {});
    let isGone = false;
    for (let step = 0; numSettled < users.length; step += 1) {
      if (step > 20_000) throw new Error(`${users.length - numSettled} of ${users.length} hang`);
      const choice = random.uniform();
      if (choice < 0.005) users[below(users.length)]!.abort();
      else if (dies && choice < 0.01 && !isGone) {
        isGone = true;
        caller.end(gone);
      } else if (!isGone) connection.deliver(choice < 0.5 ? 'server' : 'caller');
      if (step % 4 === 0) await nextTurn();
    }
    await settled;
    if (isGone) return;
    while (connection.deliver('server') || connection.deliver('caller') || target.numOpen > 0) await nextTurn();
    expect(target.numOpen).toBe(0);
  };
  await fc.assert(fc.asyncProperty(fc.integer(), fc.boolean(), run), { seed, numRuns, ...more });
});
