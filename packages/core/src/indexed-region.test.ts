import { describe, expect, it } from 'vitest';
import sizes from '../test/index-sizes.json' with { type: 'json' };
import { indexedRegion } from './indexed-region.js';

describe('indexedRegion', () => {
  it.each(sizes.indexedRegion)(
    '$numTokens tokens, $numSinkTokens sinks, window $recentWindow: [$start, $end)',
    ({ numTokens, numSinkTokens, recentWindow, start, end }) => {
      expect(indexedRegion(numTokens, { numSinkTokens, recentWindow })).toEqual({ start, end });
    },
  );
});
