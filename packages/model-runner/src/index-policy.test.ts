import { resolveSelectorOptions, type SelectorMethod } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { missesQueries, shouldBuildAfterPrefill, shouldBuildBeforeDecode } from './index-policy.js';

const selector = resolveSelectorOptions({ denseBelow: 1000 }); // sinks 16, window 256
const state = (length: number, end = 0, numRecentQueries = 0) => ({
  sequence: { length, indexedRange: { start: end === 0 ? 0 : 16, end }, numRecentQueries },
  selector,
});

describe('when an index is built', () => {
  it.each([
    ['a long prompt, no index yet', state(5000), 5000, true],
    ['below denseBelow', state(999), 999, false],
    ['a new turn of some tokens', state(5040, 4744), 40, true],
    ['a new turn of two tokens', state(5002, 4744), 2, false],
    ['two tokens, but no index yet', state(5002), 2, true],
  ])('after a prefill: %s', (_name, current, numTokens, expected) => {
    expect(shouldBuildAfterPrefill(current, numTokens)).toBe(expected);
  });

  it.each([
    ['an index that is up to date', state(5000, 4744), false],
    ['a long generation: the engine grows it', state(9000, 4744), false],
    ['a session that has just grown beyond denseBelow', state(1000), true],
  ])('before a decode step: %s', (_name, current, expected) => {
    expect(shouldBuildBeforeDecode(current)).toBe(expected);
  });

  it('never for a selector without an index, nor without anything between sinks and window', () => {
    const full = { ...state(5000), selector: resolveSelectorOptions({ method: 'full' }) };
    expect(shouldBuildAfterPrefill(full, 5000)).toBe(false);
    const short = { ...state(272), selector: resolveSelectorOptions({ denseBelow: 0 }) };
    expect(shouldBuildBeforeDecode(short)).toBe(false);
  });

  it('is more often for selectors whose index is only the region, since it costs nothing', () => {
    const streaming = resolveSelectorOptions({ method: 'streaming', denseBelow: 1000 });
    expect(shouldBuildAfterPrefill({ ...state(5000), selector: streaming }, 1)).toBe(true);
    expect(shouldBuildBeforeDecode({ ...state(5033, 4744), selector: streaming })).toBe(true);
    expect(shouldBuildBeforeDecode({ ...state(5032, 4744), selector: streaming })).toBe(false);
  });

  it.each(['snapkv', 'quest', 'magicpig', 'keyClusters'] as const)('is rare for %s, which does not grow', (method) => {
    const baseline = resolveSelectorOptions({ method, denseBelow: 1000 });
    expect(shouldBuildAfterPrefill({ ...state(5002, 4744), selector: baseline }, 2)).toBe(false);
    expect(shouldBuildAfterPrefill({ ...state(5040, 4744), selector: baseline }, 40)).toBe(true);
    expect(shouldBuildBeforeDecode({ ...state(6024, 4744), selector: baseline })).toBe(false);
    expect(shouldBuildBeforeDecode({ ...state(6025, 4744), selector: baseline })).toBe(true);
  });

  it('runs tokens again when there is no index and fewer than half of the wanted queries are held', () => {
    // A fortieth of 4728 indexed positions is less than the least, 128; of 15,728 it is 393, more than the most, 384.
    expect([missesQueries(state(5000, 0, 63)), missesQueries(state(5000, 0, 64))]).toEqual([true, false]);
    expect([missesQueries(state(16_000, 0, 191)), missesQueries(state(16_000, 0, 192))]).toEqual([true, false]);
    expect(missesQueries(state(5000, 4744, 0)), 'an index is there').toBe(false);
    const many = resolveSelectorOptions({ numCentroids: 4000, denseBelow: 1000 });
    expect(missesQueries({ ...state(1500, 0, 750), selector: many })).toBe(false);
    const misses = (method: SelectorMethod, numHeld: number) =>
      missesQueries({ ...state(5000, 0, numHeld), selector: resolveSelectorOptions({ method }) });
    expect([misses('snapkv', 15), misses('snapkv', 16)]).toEqual([true, false]);
    for (const name of ['exactTopK', 'quest', 'magicpig', 'keyClusters'] as const) expect(misses(name, 0)).toBe(false);
  });
});
