import { describe, expect, it } from 'vitest';
import { overlapCurve } from './overlap-curve.js';

describe('overlapCurve', () => {
  it('averages the points of each bin; ends belong to the outer bins, and what lies outside to none', () => {
    const similarity = Float64Array.of(0, 0.24, 0.25, 1, 0.99, -0.1, Number.NaN);
    const overlap = Float64Array.of(0.2, 0.4, 0.5, 1, 0.8, 0.9, 0.9);
    const curve = overlapCurve({ similarity, overlap, numBins: 4, from: 0 });
    expect(Array.from(curve.similarity)).toEqual([0.125, 0.375, 0.625, 0.875]);
    expect(Array.from(curve.count)).toEqual([2, 1, 0, 2]);
    [0.3, 0.5, Number.NaN, 0.9].forEach((mean, bin) => {
      if (Number.isNaN(mean)) expect(curve.overlap[bin]).toBeNaN();
      else expect(curve.overlap[bin]).toBeCloseTo(mean, 15);
    });
  });
  it('refuses points of other number, and bounds in the wrong order', () => {
    const points = new Float64Array(3);
    const refused = (code: string) => expect.objectContaining({ code });
    expect(() => overlapCurve({ similarity: points, overlap: points.subarray(1) })).toThrow(
      refused('CTKVR_SHAPE_MISMATCH'),
    );
    const options = { similarity: points, overlap: points };
    expect(() => overlapCurve({ ...options, from: 0.5, to: 0.5 })).toThrow(refused('CTKVR_INVALID_OPTION'));
    expect(() => overlapCurve({ ...options, numBins: 0 })).toThrow(refused('CTKVR_INVALID_OPTION'));
  });
});
