import { describe, expect, it } from 'vitest';
import { cosineByDistance } from './cosine-by-distance.js';
import { groupCosine } from './group-cosine.js';
import { overlapBySimilarity } from './overlap-by-similarity.js';
import { RotaryEmbedding } from './rotary-embedding.js';

describe('groupCosine', () => {
  it('is the mean over heads, whatever their lengths; a zero head counts as 0', () => {
    const of = (a: number[], b: number[]) =>
      groupCosine({ a: Float32Array.from(a), b: Float32Array.from(b), groupSize: 2, headDim: 2 });
    expect(of([1, 0, 0, 9], [5, 0, 0, 1])).toBe(1);
    expect(of([1, 0, 1, 0], [1, 0, -7, 0])).toBe(0);
    expect(of([1, 0, 0, 0], [1, 0, 1, 1])).toBe(0.5);
  });
});

describe('cosineByDistance', () => {
  it('of one vector rotated along is the mean cosine of the angles', async () => {
    const rope = new RotaryEmbedding({ headDim: 4, pairing: 'half' });
    const queries = new Float32Array(10 * 4).fill(1);
    rope.rotate({ vectors: queries, numHeads: 1, out: queries });
    const { mean, min, count } = await cosineByDistance({
      queries,
      groupSize: 1,
      headDim: 4,
      distances: Uint32Array.of(0, 1, 5, 9, 10),
    });
    [0, 1, 5, 9].forEach((distance, i) => {
      expect(mean[i]).toBeCloseTo((Math.cos(distance) + Math.cos(distance / 100)) / 2, 5);
      expect(min[i]).toBeCloseTo(mean[i]!, 5);
    });
    expect(Array.from(count)).toEqual([10, 9, 5, 1, 0]);
    expect(mean[4]).toBeNaN();
  });
  it('refuses a buffer that is no whole number of rows', async () => {
    const input = { queries: new Float32Array(7), groupSize: 1, headDim: 4, distances: Uint32Array.of(1) };
    await expect(cosineByDistance(input)).rejects.toThrow(expect.objectContaining({ code: 'CTKVR_SHAPE_MISMATCH' }));
  });
});

describe('overlapBySimilarity', () => {
  const keys = Float32Array.of(1, 0, 0, 1, -1, 0, 0, -1);
  const base = { keys, groupSize: 1, headDim: 2, topK: 2 };
  it('equal queries share all keys, opposite ones none, orthogonal ones half', async () => {
    const queries = Float32Array.of(2, 1, -2, -1, 1, -2);
    const pairs = Uint32Array.of(0, 0, 0, 1, 0, 2);
    const { similarity, overlap } = await overlapBySimilarity({ ...base, queries, pairs });
    expect(Array.from(overlap)).toEqual([1, 0, 0.5]);
    expect(similarity[0]).toBeCloseTo(1, 12);
    expect(similarity[1]).toBeCloseTo(-1, 12);
    expect(similarity[2]).toBeCloseTo(0, 12);
  });
  it('refuses rows that are not there and more keys than there are', async () => {
    const queries = Float32Array.of(1, 0);
    const option = expect.objectContaining({ code: 'CTKVR_INVALID_OPTION' });
    await expect(overlapBySimilarity({ ...base, queries, pairs: Uint32Array.of(0, 1) })).rejects.toThrow(option);
    const tooMany = { ...base, queries, pairs: Uint32Array.of(0, 0), topK: 5 };
    await expect(overlapBySimilarity(tooMany)).rejects.toThrow(option);
  });
});
