import { expect, it } from 'vitest';
import { MIN_PREFIX_TOKENS, PrefixCache } from './prefix-cache.js';

class Stub {
  isClosed = false;
  bytes: number;
  constructor(bytes = 10) {
    this.bytes = bytes;
  }
  close(): void {
    this.isClosed = true;
  }
}

const prompt = (first: number, length = 100) => Int32Array.from({ length }, (_, i) => (i === 0 ? first : i));

it('drops the least recently used first, and none that is closed twice', () => {
  const cache = new PrefixCache<Stub>({ maxBytes: 30 });
  const stubs = [1, 2, 3].map(() => new Stub());
  for (const [i, stub] of stubs.entries()) cache.keep('', prompt(i), stub);
  expect(cache.find('', prompt(0))?.length).toBe(100);
  cache.keep('', prompt(9), new Stub());
  expect(stubs.map(({ isClosed }) => isClosed)).toEqual([false, true, false]);
  expect(cache.usage).toEqual({ numPrefixes: 3, bytes: 30, maxBytes: 30 });
  cache.trim(10);
  expect(stubs.map(({ isClosed }) => isClosed)).toEqual([true, true, true]);
  expect(cache.find('', prompt(9))?.length).toBe(100);
  cache.clear();
  expect(cache.usage.numPrefixes).toBe(0);
});

it('a longer prompt takes the place of its beginning, in its own namespace', () => {
  const cache = new PrefixCache<Stub>({ maxBytes: 100 });
  const [turn, other, next] = [new Stub(), new Stub(), new Stub()];
  cache.keep('a', prompt(0, 100), turn);
  cache.keep('b', prompt(0, 100), other);
  cache.keep('a', prompt(0, 150), next);
  expect([turn.isClosed, other.isClosed]).toEqual([true, false]);
  expect(cache.find('a', prompt(0, 120))).toEqual({ value: next, length: 120 });
  expect(cache.find('b', prompt(0, 120))).toEqual({ value: other, length: 100 });
  expect(cache.find('c', prompt(0, 120))).toBeNull();
});

it('keeps nothing that is too short, too large, or that it has no memory for', () => {
  const cache = new PrefixCache<Stub>({ maxBytes: 100 });
  const [short, large, unwanted] = [new Stub(), new Stub(101), new Stub()];
  cache.keep('', prompt(0, MIN_PREFIX_TOKENS - 1), short);
  cache.keep('', prompt(1), large);
  new PrefixCache<Stub>({ maxBytes: 0 }).keep('', prompt(2), unwanted);
  expect([short.isClosed, large.isClosed, unwanted.isClosed]).toEqual([true, true, true]);
  cache.keep('', prompt(3), new Stub());
  expect(cache.find('', prompt(3, MIN_PREFIX_TOKENS - 1))).toBeNull();
});

it('holds 256 prompts at most', () => {
  const cache = new PrefixCache<Stub>({ maxBytes: 1e9 });
  for (let i = 0; i < 300; i++) cache.keep('', prompt(1000 + i), new Stub());
  expect(cache.usage.numPrefixes).toBe(256);
  expect(cache.find('', prompt(1000))).toBeNull();
});
