/** Which models are loaded when, on models that only count. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createRandom, propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { memoryShares } from '../src/isolation/memory-shares.js';
import { ModelPool, type PoolMember } from '../src/isolation/model-pool.js';
import { until } from './until.js';

class Member implements PoolMember {
  isLoaded = false;
  /** Set: a load goes on until it is broken off. */
  isSlow = false;
  #breakOff = () => {};
  isUsed = 0;
  numLoads = 0;
  failWith: Error | null = null;
  /** Bytes of all that are loaded, together. */
  static loadedBytes = 0;

  constructor(
    readonly modelId: string,
    readonly neededBytes: number,
  ) {}

  async load(): Promise<void> {
    expect(this.isLoaded).toBe(false);
    await nextTurn();
    if (this.failWith !== null) throw this.failWith;
    if (this.isSlow) {
      await new Promise<void>((_, reject) => {
        this.#breakOff = () => reject(new Error('broken off'));
      });
    }
    this.isLoaded = true;
    this.numLoads += 1;
    Member.loadedBytes += this.neededBytes;
  }

  async unload(): Promise<void> {
    if (this.isSlow) {
      this.#breakOff();
      return;
    }
    expect([this.isLoaded, this.isUsed]).toEqual([true, 0]);
    await nextTurn();
    this.isLoaded = false;
    Member.loadedBytes -= this.neededBytes;
  }
}

const logger = pino({ level: 'silent' });
const never = new AbortController().signal;
const poolOf = (more: object = {}) =>
  new ModelPool({ budgetBytes: 100, unloadAfterMs: null, maxWaiting: 100, logger, ...more });
const make = (...sizes: number[]) => {
  Member.loadedBytes = 0;
  return sizes.map((size, index) => new Member('abc'[index] ?? 'z', size));
};

describe('a pool of models', () => {
  test('loads a model once for all who wait, and keeps what fits', async () => {
    const [a, b] = make(50, 50) as [Member, Member];
    const pool = poolOf();
    const leases = await Promise.all([a, a, b, a].map((member) => pool.use(member, never)));
    expect([a.numLoads, b.numLoads]).toEqual([1, 1]);
    for (const giveBack of leases) giveBack();
    await pool.close();
    expect([a.isLoaded, b.isLoaded]).toEqual([false, false]);
  });

  test('unloads what was used longest ago, when its last request has ended', async () => {
    const [a, b, c] = make(50, 50, 50) as [Member, Member, Member];
    const pool = poolOf();
    const first = await pool.use(a, never);
    (await pool.use(b, never))();
    (await pool.use(a, never))();
    (await pool.use(c, never))();
    expect([a.isLoaded, b.isLoaded, c.isLoaded]).toEqual([true, false, true]);
    // Now b needs the place of a, which is in use; who comes for a meanwhile waits behind b.
    const order: string[] = [];
    const forB = pool.use(b, never).then((giveBack) => {
      order.push('b');
      giveBack();
    });
    await nextTurn();
    const forA = pool.use(a, never).then((giveBack) => {
      order.push('a');
      giveBack();
    });
    for (let turn = 0; turn < 20; turn += 1) await nextTurn();
    expect([order, a.isLoaded]).toEqual([[], true]);
    first();
    await Promise.all([forA, forB]);
    expect(order).toEqual(['b', 'a']);
    await pool.close();
  });

  test('loads one that needs more than everything alone', async () => {
    const [a, b] = make(10, 500) as [Member, Member];
    const pool = poolOf();
    (await pool.use(a, never))();
    (await pool.use(b, never))();
    expect([a.isLoaded, b.isLoaded]).toEqual([false, true]);
    await pool.close();
  });

  test('tells those who wait why a load failed, and tries again for the next', async () => {
    const [a] = make(10) as [Member];
    const pool = poolOf();
    a.failWith = new Error('damaged');
    const waiting = [pool.use(a, never), pool.use(a, never)];
    for (const one of waiting) await expect(one).rejects.toBe(a.failWith);
    a.failWith = null;
    (await pool.use(a, never))();
    expect(a.isLoaded).toBe(true);
    await pool.close();
  });

  test('unloads what is idle, and loads it for the next request', async () => {
    const [a] = make(10) as [Member];
    const pool = poolOf({ unloadAfterMs: 20 });
    const giveBack = await pool.use(a, never);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(a.isLoaded).toBe(true); // in use is not idle, for however long
    giveBack();
    giveBack(); // twice is once
    await until(() => !a.isLoaded);
    (await pool.use(a, never))();
    expect(a.numLoads).toBe(2);
    await pool.close();
  });

  test('gives what is loaded to who only looks, and loads nothing for that', async () => {
    const [a] = make(10) as [Member];
    const pool = poolOf();
    expect(pool.useIfLoaded(a)).toBeNull();
    const loading = pool.use(a, never);
    expect(pool.useIfLoaded(a)).toBeNull();
    (await loading)();
    const giveBack = pool.useIfLoaded(a)!;
    const closing = pool.close();
    for (let turn = 0; turn < 5; turn += 1) await nextTurn();
    expect([a.isLoaded, a.numLoads]).toEqual([true, 1]); // as long as somebody looks
    giveBack();
    await nextTurn();
    expect(pool.useIfLoaded(a)).toBeNull(); // on its way out
    await closing;
    expect(a.isLoaded).toBe(false);
    expect(pool.useIfLoaded(a)).toBeNull();
  });

  test('shows a model that only waits for its last request to end', async () => {
    const [a, b] = make(80, 80) as [Member, Member];
    const pool = poolOf();
    const reading = await pool.use(a, never);
    const forB = pool.use(b, never);
    for (let turn = 0; turn < 5; turn += 1) await nextTurn();
    const looking = pool.useIfLoaded(a)!;
    reading();
    const again = pool.useIfLoaded(a)!; // its end is awaited, too
    looking();
    for (let turn = 0; turn < 5; turn += 1) await nextTurn();
    expect([a.isLoaded, b.isLoaded]).toEqual([true, false]);
    again();
    (await forB)();
    expect([a.isLoaded, b.isLoaded, pool.useIfLoaded(a)]).toEqual([false, true, null]);
    await pool.close();
  });

  test('does not count a look as a use: what was asked longest ago leaves first', async () => {
    const [a, b, c] = make(50, 50, 50) as [Member, Member, Member];
    const pool = poolOf();
    (await pool.use(a, never))();
    (await pool.use(b, never))();
    pool.useIfLoaded(a)!();
    (await pool.use(c, never))();
    expect([a.isLoaded, b.isLoaded]).toEqual([false, true]);
    await pool.close();
  });

  test('unloads what is idle, though looked at; one that is looked at right then, later', async () => {
    const [a] = make(10) as [Member];
    const pool = poolOf({ unloadAfterMs: 20 });
    (await pool.use(a, never))();
    await until(() => {
      pool.useIfLoaded(a)?.();
      return !a.isLoaded;
    });
    const giveBack = await pool.use(a, never);
    const looking = pool.useIfLoaded(a)!;
    giveBack();
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(a.isLoaded).toBe(true);
    looking();
    await until(() => !a.isLoaded);
    await pool.close();
  });

  test('tells what goes on by itself that it closes', async () => {
    const [a] = make(10) as [Member];
    const pool = poolOf();
    const giveBack = await pool.use(a, never);
    expect(pool.closing.aborted).toBe(false);
    pool.closing.addEventListener('abort', giveBack);
    await pool.close();
    expect([a.isLoaded, pool.closing.reason.code]).toEqual([false, 'CTKVR_CLOSED']);
  });

  test('refuses those who leave, one too many, and everybody once it is closed', async () => {
    const [a, b] = make(80, 80) as [Member, Member];
    const pool = poolOf({ maxWaiting: 1 });
    const giveBack = await pool.use(a, never);
    const leave = new AbortController();
    const leaving = pool.use(b, leave.signal);
    await expect(pool.use(b, never)).rejects.toMatchObject({ code: 'CTKVR_OVERLOADED' });
    leave.abort(new Error('left'));
    await expect(leaving).rejects.toThrow('left');
    await expect(pool.use(b, leave.signal)).rejects.toThrow('left');
    const waiting = pool.use(b, never);
    const refused = expect(waiting).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    const closing = pool.close();
    giveBack();
    await Promise.all([refused, closing]);
    await expect(pool.use(a, never)).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    expect(Member.loadedBytes).toBe(0);
  });

  test('breaks off what is being loaded when it is closed', async () => {
    const [a] = make(10) as [Member];
    const pool = poolOf();
    a.isSlow = true;
    const refused = expect(pool.use(a, never)).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    for (let turn = 0; turn < 5; turn += 1) await nextTurn();
    await pool.close();
    await refused;
  });

  test('random requests are all served, within the memory, and nothing is left', async () => {
    const { seed, numRuns, ...more } = propertyParameters(100);
    const run = async (caseSeed: number) => {
      const random = createRandom(caseSeed);
      const members = make(...Array.from({ length: 4 }, () => random.integer(10, 60)));
      const pool = poolOf(random.uniform() < 0.5 ? { unloadAfterMs: 1 } : {});
      const uses = Array.from({ length: 30 }, async () => {
        const member = members[random.integer(0, 3)]!;
        const leave = new AbortController();
        for (let turn = random.integer(0, 30); turn > 0; turn -= 1) await nextTurn();
        const using = pool.use(member, leave.signal);
        if (random.uniform() < 0.2) leave.abort(new Error('left'));
        const giveBack = await using.catch((error: Error) => {
          if (!leave.signal.aborted) throw error;
          return null;
        });
        if (giveBack === null) return;
        expect(member.isLoaded).toBe(true);
        member.isUsed += 1;
        for (let turn = random.integer(0, 10); turn > 0; turn -= 1) await nextTurn();
        expect([member.isLoaded, Member.loadedBytes <= 100]).toEqual([true, true]);
        member.isUsed -= 1;
        giveBack();
      });
      await Promise.all(uses);
      await pool.close();
      expect(Member.loadedBytes).toBe(0);
    };
    await fc.assert(fc.asyncProperty(fc.integer(), run), { seed, numRuns, ...more });
  });
});

test('models share memory equally, or by what their weights need', () => {
  const [small, large] = memoryShares([2e9, 30e9], 40e9);
  expect(small!.neededBytes).toBe(20e9);
  expect(small!.sessionMemoryBytes).toBeLessThan(18e9);
  expect(large!.neededBytes).toBeGreaterThan(30e9);
  expect(large!.sessionMemoryBytes).toBeGreaterThan(0);
  expect(small!.neededBytes + large!.neededBytes).toBeGreaterThan(40e9); // never both at once
  for (const { neededBytes, sessionMemoryBytes } of memoryShares([2e9, 3e9], 40e9, 1e9)) {
    expect(sessionMemoryBytes).toBe(1e9);
    expect(neededBytes).toBeLessThan(5e9);
  }
});
