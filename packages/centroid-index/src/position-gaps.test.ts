import { propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeGaps, encodeGaps } from './position-gaps.js';

describe('positions as gaps', () => {
  it('come back', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(5000)), fc.nat(100), (places, start) => {
        const positions = Uint32Array.from(places, (place) => start + place).sort();
        expect(decodeGaps(encodeGaps(positions, start), { start, end: start + 5001 })).toEqual(positions);
      }),
      propertyParameters(200),
    );
  });
  it('at the edge of a byte are what ctkvr-core writes', () => {
    expect(encodeGaps(Uint32Array.of(0, 254, 255, 510, 766), 0)).toEqual(Uint8Array.of(1, 254, 1, 255, 0, 1));
  });
  it('that end beyond the region, or in the middle of a gap, are refused', () => {
    expect(decodeGaps(Uint8Array.of(5, 6), { start: 4, end: 15 })).toEqual(Uint32Array.of(8, 14));
    expect(decodeGaps(Uint8Array.of(5, 6), { start: 4, end: 14 })).toBeNull();
    expect(decodeGaps(Uint8Array.of(5, 0), { start: 0, end: 1000 })).toBeNull();
  });
});
