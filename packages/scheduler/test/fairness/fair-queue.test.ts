import { describe, expect, it } from 'vitest';
import { FairQueue, type QueueCaller } from '../../src/index.js';

const caller = (name: string, more: Partial<QueueCaller> = {}): QueueCaller => ({
  name,
  weight: 1,
  priority: 0,
  maxRunning: 1000,
  maxQueued: 1000,
  ...more,
});

/** One place, taken; returns how to ask for it, and who gets it, in which order, until nobody waits. */
function oneBusyPlace() {
  const queue = new FairQueue({ maxRunning: 1, maxQueued: 1000 });
  const busy = queue.arrive({ caller: caller('busy'), tokens: 0, deadlineMs: 1e9 }).id;
  const names = new Map<number, string>();
  const ask = (from: QueueCaller, { tokens = 100, deadlineMs = 1e9 } = {}) => {
    const { id, isRunning } = queue.arrive({ caller: from, tokens, deadlineMs });
    expect(isRunning).toBe(false);
    names.set(id, from.name);
    return id;
  };
  const order = () => {
    const served: string[] = [];
    for (let [running] = queue.leave(busy, 0); running !== undefined; [running] = queue.leave(running, 0)) {
      served.push(names.get(running)!);
    }
    return served.join('');
  };
  return { queue, busy, ask, order };
}

describe('who is next', () => {
  it('callers take turns, however many requests one of them has', () => {
    const { ask, order } = oneBusyPlace();
    for (let n = 0; n < 6; n += 1) ask(caller('a'));
    ask(caller('b'));
    ask(caller('b'));
    expect(order()).toBe('ababaaaa');
  });

  it('turns are of tokens, not of requests', () => {
    const { ask, order } = oneBusyPlace();
    for (let n = 0; n < 3; n += 1) ask(caller('a'), { tokens: 400 });
    for (let n = 0; n < 8; n += 1) ask(caller('b'));
    expect(order()).toBe('abbbbabbbba');
  });

  it('a caller of twice the weight has twice the turns', () => {
    const { ask, order } = oneBusyPlace();
    for (let n = 0; n < 3; n += 1) ask(caller('a'));
    for (let n = 0; n < 6; n += 1) ask(caller('b', { weight: 2 }));
    expect(order()).toBe('abbabbabb');
  });

  it('what a request is given while it runs counts, and what is taken back does not', () => {
    const { queue, busy, ask } = oneBusyPlace();
    const [a] = [ask(caller('a')), ask(caller('a')), ask(caller('b'), { tokens: 150 }), ask(caller('b'))];
    expect(queue.leave(busy, 0)).toEqual([a]);
    queue.charge(a, 500);
    const [b] = queue.leave(a, 0);
    queue.charge(b!, 1000);
    queue.charge(b!, -1000); // its prompt was known already
    expect([b, ...queue.leave(b!, 0)]).toEqual([4, 5]); // b has 150, a 600
  });

  it('who was away has saved up no turns', () => {
    const { queue, busy, ask, order } = oneBusyPlace();
    queue.charge(busy, 1000); // of those who are there the smallest account
    for (let n = 0; n < 3; n += 1) ask(caller('a'));
    for (let n = 0; n < 3; n += 1) ask(caller('b'));
    expect(order()).toBe('ababab');
  });

  it('who leaves and comes back has its debts still', () => {
    const { queue, busy, ask } = oneBusyPlace();
    const debtor = ask(caller('a'), { tokens: 250 });
    for (let n = 0; n < 4; n += 1) ask(caller('b'));
    expect(queue.leave(busy, 0)).toEqual([debtor]);
    const [b] = queue.leave(debtor, 0); // a is away
    ask(caller('a'));
    expect(b).toBe(3);
    const served = [];
    for (let [id] = queue.leave(b!, 0); id !== undefined; [id] = queue.leave(id, 0)) served.push(id);
    expect(served).toEqual([4, 5, 7, 6]); // a's second goes when b has had as much as a's first
  });

  it('higher priorities go first, but for one start in eight', () => {
    const { ask, order } = oneBusyPlace();
    for (let n = 0; n < 3; n += 1) ask(caller('l', { priority: -1 }));
    for (let n = 0; n < 20; n += 1) ask(caller('h'));
    expect(order()).toBe('hhhhhhhlhhhhhhhlhhhhhhl');
  });
});

describe('bounds', () => {
  it('a caller runs and waits no more than it may, whatever room there is', () => {
    const queue = new FairQueue({ maxRunning: 4, maxQueued: 4 });
    const bounded = caller('a', { maxRunning: 1, maxQueued: 1 });
    const ask = (from: QueueCaller) => queue.arrive({ caller: from, tokens: 1, deadlineMs: 1e9 });
    expect(ask(bounded)).toEqual({ id: 1, isRunning: true });
    expect(ask(bounded)).toEqual({ id: 2, isRunning: false });
    expect(queue.isFullFor(bounded)).toBe(true);
    expect(() => ask(bounded)).toThrow(
      expect.objectContaining({ code: 'CTKVR_OVERLOADED', message: expect.stringMatching(/^1 request .* of a /) }),
    );
    expect(ask(caller('b'))).toEqual({ id: 3, isRunning: true });
    expect(queue.leave(3, 0)).toEqual([]); // a's second may not run beside its first
    expect(queue.leave(1, 0)).toEqual([2]);
    expect(queue.leave(1, 0)).toEqual([]);
  });

  it('a deadline that has passed is told once; the request never runs', () => {
    const { queue, busy, ask } = oneBusyPlace();
    const early = ask(caller('a'), { deadlineMs: 10 });
    const later = ask(caller('a'), { deadlineMs: 20 });
    expect(queue.nextDeadlineMs).toBe(10);
    expect(queue.expire(9)).toEqual([]);
    expect(queue.leave(busy, 10)).toEqual([later]);
    expect(queue.expire(30)).toEqual([early]); // who runs has no deadline any more
    expect(queue.expire(30)).toEqual([]);
    expect([queue.numRunning, queue.numWaiting, queue.nextDeadlineMs]).toEqual([1, 0, Number.POSITIVE_INFINITY]);
  });
});
