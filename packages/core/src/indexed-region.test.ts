import { describe, expect, it } from 'vitest';
import { indexedRegion } from './indexed-region.js';

describe('indexedRegion', () => {
  it.each([
    // numTokens, sinks, window, start, end
    [100, 16, 32, 16, 68],
    [48, 16, 32, 16, 16],
    [49, 16, 32, 16, 17],
    [20, 16, 32, 16, 16],
    [10, 16, 32, 10, 10],
    [10, 0, 4, 0, 6],
    [1, 16, 256, 1, 1],
  ])('%i tokens, %i sinks, window %i: [%i, %i)', (numTokens, numSinkTokens, recentWindow, start, end) => {
    expect(indexedRegion(numTokens, { numSinkTokens, recentWindow })).toEqual({ start, end });
  });
});
