import { describe, expect, it } from 'vitest';
import { attentionMass, klDivergence, recallAtK } from './measures.js';

describe('measures', () => {
  it('recall is the share of the truth that was found', () => {
    expect(recallAtK([1, 2, 3, 9], [1, 2, 7, 8])).toBe(0.5);
    expect(recallAtK([], [1])).toBe(0);
    expect(recallAtK([1], [])).toBe(1);
  });
  it('attention mass is the softmax weight of the positions, averaged over heads', () => {
    // headDim 1, scores ln 1, ln 2, ln 5 for the first head, all equal for the second.
    const keys = Float32Array.of(Math.log(1), Math.log(2), Math.log(5));
    const input = { query: Float32Array.of(1, 0), keys, headDim: 1 };
    expect(attentionMass({ ...input, positions: [2] })).toBeCloseTo((5 / 8 + 1 / 3) / 2, 6);
    expect(attentionMass({ ...input, positions: [0, 1, 2] })).toBeCloseTo(1, 12);
  });
  it('KL is that of the distributions, not of the logits', () => {
    const p = Float32Array.of(Math.log(0.5), Math.log(0.25), Math.log(0.25));
    const q = Float32Array.of(Math.log(0.25), Math.log(0.5), Math.log(0.25));
    expect(klDivergence(p, q)).toBeCloseTo(0.5 * Math.log(2) - 0.25 * Math.log(2), 6);
    expect(
      klDivergence(
        p,
        p.map((x) => x + 100),
      ),
    ).toBeCloseTo(0, 5);
    expect(klDivergence(Float32Array.of(0, Number.NEGATIVE_INFINITY), Float32Array.of(0, 0))).toBeCloseTo(
      Math.log(2),
      12,
    );
    expect(() => klDivergence(p, q.subarray(1))).toThrow(RangeError);
  });
});
