import { describe, expect, it } from 'vitest';
import { LeastTokens } from './least-tokens.js';

/** A vocabulary with tokens of the given lengths, which counts how often it was asked. */
function leastTokens(lengths: readonly number[]) {
  let numAsked = 0;
  const least = new LeastTokens({
    size: lengths.length,
    tokenBytes(tokenId: number) {
      numAsked += 1;
      return new Uint8Array(lengths[tokenId]!);
    },
  });
  return { least, numAsked: () => numAsked };
}

describe('what a text must be at least', () => {
  it('is its length by the longest token: refused from there on, with both numbers', async () => {
    const { least } = leastTokens([1, 20, 3]);
    await least.check(200, 10);
    await expect(least.check(201, 10)).rejects.toMatchObject({
      code: 'CTKVR_CONTEXT_EXCEEDED',
      fields: { contextLength: 10, promptTokens: 11 },
    });
  });

  it('looks at the vocabulary once, and not for texts of a usual length', async () => {
    const { least, numAsked } = leastTokens(Array.from({ length: 1000 }, () => 30));
    await least.check(160, 10);
    expect(numAsked()).toBe(0);
    await Promise.all([least.check(300, 10), least.check(170, 10)]);
    await least.check(300, 10);
    expect(numAsked()).toBe(1000);
  });
});
