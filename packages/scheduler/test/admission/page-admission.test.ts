/** The policy, case by case. Budgets and needs are in tokens: `bytesFor` is the identity. The simulation has the invariants. */
import { describe, expect, it } from 'vitest';
import { type AdmissionOptions, PageAdmission } from '../../src/index.js';

const bytesFor = (numTokens: number) => numTokens;

function make(options: Partial<AdmissionOptions> = {}) {
  const admission = new PageAdmission({ pageSize: 10, reserveTokens: 10, ...options });
  const arrive = (numTokens: number, maxTokens = 1000) => admission.arrive({ numTokens, maxTokens, bytesFor });
  const decide = (budget: number) => admission.decide(budget).map(({ type, id }) => `${type} ${id}`);
  return { admission, arrive, decide };
}

describe('admission', () => {
  it('begins a request whose prompt and reserve fit, however long its answer may become', () => {
    const { admission, arrive, decide } = make();
    arrive(41, 900);
    arrive(20, 900);
    expect(decide(100)).toEqual(['admit 1', 'admit 2']);
    // whole pages: 50 and 20
    expect(admission.grantedBytes).toBe(70);
  });

  it('lets what does not fit wait in order of arrival, also who would fit', () => {
    const { admission, arrive, decide } = make();
    const first = arrive(60);
    arrive(50);
    arrive(10);
    expect(decide(100)).toEqual(['admit 1']);
    expect(admission.numWaiting).toBe(2);
    admission.leave(first);
    expect(decide(100)).toEqual(['admit 2', 'admit 3']);
  });

  it('needs the reserve beside others only: alone, a prompt that just fits begins', () => {
    const { admission, arrive, decide } = make();
    arrive(100, 100);
    expect(decide(100)).toEqual(['admit 1']);
    arrive(10, 100);
    expect(decide(115)).toEqual([]);
    expect(decide(120)).toEqual(['admit 2']);
    expect(admission.numRunning).toBe(2);
  });

  it('counts what all have and wait for, reserves included', () => {
    const { admission, arrive, decide } = make();
    const first = arrive(60);
    decide(100);
    arrive(50, 100); // and 10 in reserve
    expect(admission.wantedBytes).toBe(120);
    admission.wantRoom(first, 70);
    expect(admission.wantedBytes).toBe(130);
    admission.leave(first);
    expect(admission.wantedBytes).toBe(60);
  });

  it('asks no reserve beyond the most tokens that a request can have', () => {
    const { arrive, decide } = make();
    arrive(50);
    arrive(45, 48);
    expect(decide(97)).toEqual(['admit 1']);
    expect(decide(98)).toEqual(['admit 2']);
  });

  it('refuses a prompt that does not fit alone, once, and goes on when it has left', () => {
    const { admission, arrive, decide } = make();
    const first = arrive(101);
    arrive(10);
    expect(decide(100)).toEqual(['refuse 1']);
    expect(decide(100)).toEqual([]);
    admission.leave(first);
    expect(decide(100)).toEqual(['admit 2']);
  });

  it('refuses whoever comes when as many wait as may', () => {
    const { arrive, decide } = make({ maxWaiting: 2 });
    arrive(80);
    decide(100);
    arrive(80);
    arrive(80);
    expect(() => arrive(1)).toThrowError(
      expect.objectContaining({ code: 'CTKVR_OVERLOADED', fields: { numRunning: 1, numWaiting: 2 } }),
    );
  });
});

describe('growth', () => {
  it('is page by page, and asked for only when a page is full', () => {
    const { admission, arrive, decide } = make();
    const id = arrive(15, 34);
    decide(100);
    expect(admission.wantRoom(id, 20)).toBe(true);
    expect(admission.wantRoom(id, 21)).toBe(false);
    expect(decide(100)).toEqual(['grow 1']);
    expect(admission.wantRoom(id, 34)).toBe(false);
    expect(decide(100)).toEqual(['grow 1']);
    expect(admission.grantedBytes).toBe(34);
  });

  it('defers the newest until an older one has left', () => {
    const { admission, arrive, decide } = make({ reserveTokens: 0 });
    const [first, second] = [arrive(50), arrive(50)];
    expect(decide(100)).toEqual(['admit 1', 'admit 2']);
    expect(admission.wantRoom(second, 51)).toBe(false);
    expect(decide(100)).toEqual([]);
    admission.leave(first);
    expect(decide(100)).toEqual(['grow 2']);
  });

  it('preempts the newest where an older one lacks a page, and readmits it at its old place', () => {
    const { admission, arrive, decide } = make({ reserveTokens: 0 });
    const [first, , third] = [arrive(40), arrive(30), arrive(30)];
    arrive(10);
    expect(decide(100)).toEqual(['admit 1', 'admit 2', 'admit 3']);
    expect(admission.wantRoom(first, 41)).toBe(false);
    expect(decide(100)).toEqual(['preempt 3']);
    // It still holds its memory: nothing moves.
    expect(admission.wantRoom(third, 30)).toBe(false);
    expect(decide(100)).toEqual([]);
    admission.released(third, 31);
    expect(decide(100)).toEqual(['grow 1']); // 20 are free: 3 wants 40, and 4 is behind it
    expect(admission.numWaiting).toBe(2);
    admission.leave(first);
    expect(decide(100)).toEqual(['admit 3', 'admit 4']);
  });

  it('preempts nobody in vain: not when all newer ones together hold too little', () => {
    const { admission, arrive, decide } = make({ reserveTokens: 0 });
    const [first, second] = [arrive(60), arrive(20)];
    arrive(10);
    decide(100);
    expect(admission.wantRoom(second, 60)).toBe(false);
    expect(decide(100)).toEqual([]);
    admission.leave(first);
    expect(decide(100)).toEqual(['grow 2']);
  });

  it('gives nothing to newer ones while an older one waits', () => {
    const { admission, arrive, decide } = make({ reserveTokens: 0 });
    const [first, second, third] = [arrive(50), arrive(20), arrive(20)];
    decide(100);
    admission.pin(third);
    expect(admission.wantRoom(second, 50)).toBe(false);
    expect(admission.wantRoom(third, 30)).toBe(false);
    expect(decide(100)).toEqual([]);
    admission.leave(first);
    expect(decide(100)).toEqual(['grow 2', 'grow 3']);
  });

  it('never preempts a pinned one; where all wait for it, it ends', () => {
    const { admission, arrive, decide } = make({ reserveTokens: 0 });
    const [first, second] = [arrive(50), arrive(50)];
    decide(100);
    admission.pin(second);
    expect(admission.wantRoom(first, 51)).toBe(false);
    expect(decide(100)).toEqual([]);
    expect(admission.wantRoom(second, 51)).toBe(false);
    expect(decide(100)).toEqual(['refuse 2']);
    expect(decide(100)).toEqual([]);
    admission.leave(second);
    expect(decide(100)).toEqual(['grow 1']);
  });

  it('refuses who cannot grow alone, and gives nothing while the budget is below what is held', () => {
    const { admission, arrive, decide } = make({ reserveTokens: 0 });
    const first = arrive(50);
    decide(100);
    arrive(10);
    expect(decide(40)).toEqual([]);
    expect(admission.wantRoom(first, 101)).toBe(false);
    expect(decide(100)).toEqual(['refuse 1']);
  });
});
