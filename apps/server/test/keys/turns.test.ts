/** The queue's turns between callers, as requests have them: what `FairQueue` decides is tested in the scheduler. */
import { describe, expect, test } from 'vitest';
import { makeApiKey, RequestQueue } from '../../src/index.js';
import { callerWith } from '../../src/keys/caller.js';

const caller = (name: string) => callerWith(makeApiKey(name).entry, 100);
const forever = new AbortController().signal;

/** One slot, taken until `go`; returns a way to queue requests, and the order in which they ran. */
function oneSlot() {
  const queue = new RequestQueue({ maxRunning: 1, maxQueued: 100 });
  const ran: string[] = [];
  let go!: () => void;
  const first = queue.run(forever, () => new Promise<void>((resolve) => (go = resolve)));
  const done: Promise<unknown>[] = [first];
  const ask = (name: string, { tokens = 10, more = 0 } = {}) => {
    const work = async (slot: { charge(tokens: number): void }) => {
      ran.push(name);
      slot.charge(more);
    };
    done.push(queue.run(forever, work, { caller: caller(name), tokens }));
  };
  const order = async () => {
    go();
    await Promise.all(done);
    return ran.join('');
  };
  return { queue, ask, order };
}

describe('requests of several keys', () => {
  test('take turns, however many one of them has sent before', async () => {
    const { ask, order } = oneSlot();
    for (const name of 'aaaab') ask(name);
    expect(await order()).toBe('abaaa');
  });

  test('what an answer cost counts, what the cache had does not', async () => {
    const { ask, order } = oneSlot();
    ask('a', { more: 25 }); // 35 in all
    ask('a');
    for (let n = 0; n < 5; n += 1) ask('b', { tokens: 100, more: -90 }); // 10 in all
    expect(await order()).toBe('abbbbab');
  });

  test('all are free again when nobody is left', async () => {
    const { queue, ask, order } = oneSlot();
    for (const name of 'abc') ask(name);
    await order();
    expect([queue.numRunning, queue.numQueued]).toEqual([0, 0]);
  });
});
