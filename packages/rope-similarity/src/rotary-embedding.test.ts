/** Examples worked out by hand. Conformance and properties are tested in packages/testkit/test/rope-*.test.ts, with the native side. */
import { describe, expect, it } from 'vitest';
import { RotaryEmbedding } from './rotary-embedding.js';

function rotated(rope: RotaryEmbedding, vectors: Float32Array, at: number): Float32Array {
  const out = new Float32Array(vectors.length);
  rope.rotate({ vectors, positions: Uint32Array.of(at), numHeads: vectors.length / rope.headDim, out });
  return out;
}

describe('RotaryEmbedding', () => {
  it('turns pair i by position * frequency i, in either pairing', () => {
    // Two pairs, frequencies 1 and 0.01.
    const [c1, s1, c2, s2] = [Math.cos(3), Math.sin(3), Math.cos(0.03), Math.sin(0.03)];
    const half = rotated(new RotaryEmbedding({ headDim: 4, pairing: 'half' }), Float32Array.of(1, 1, 0, 0), 3);
    const adjacent = rotated(new RotaryEmbedding({ headDim: 4, pairing: 'adjacent' }), Float32Array.of(1, 0, 1, 0), 3);
    [c1, c2, s1, s2].forEach((x, i) => {
      expect(half[i]).toBeCloseTo(x, 6);
    });
    [c1, s1, c2, s2].forEach((x, i) => {
      expect(adjacent[i]).toBeCloseTo(x, 6);
    });
  });
  it('position 0 changes nothing; dimensions beyond rotaryDim never change', () => {
    const rope = new RotaryEmbedding({ headDim: 6, rotaryDim: 4, pairing: 'half' });
    const x = Float32Array.of(1, 2, 3, 4, 5, 6);
    expect(rotated(rope, x, 0)).toEqual(x);
    const turned = rotated(rope, x, 7);
    expect(Array.from(turned.subarray(4))).toEqual([5, 6]);
    expect(turned[0]).not.toBe(1);
  });
  it('positions default to 0, 1, 2, ... and every head of a token turns alike', () => {
    const rope = new RotaryEmbedding({ headDim: 4, pairing: 'half' });
    const token = [1, 2, 3, 4];
    const out = new Float32Array(3 * 2 * 4);
    rope.rotate({ vectors: Float32Array.from([0, 1, 2].flatMap(() => [...token, ...token])), numHeads: 2, out });
    for (const at of [0, 1, 2]) {
      const expected = rotated(rope, Float32Array.from(token), at);
      expect(out.slice(at * 8, at * 8 + 4)).toEqual(expected);
      expect(out.slice(at * 8 + 4, at * 8 + 8)).toEqual(expected);
    }
  });
  it('wrong shapes and options are refused', () => {
    const rope = new RotaryEmbedding({ headDim: 4, pairing: 'half' });
    const vectors = new Float32Array(8);
    const shape = expect.objectContaining({ code: 'CTKVR_SHAPE_MISMATCH' });
    expect(() => rope.rotate({ vectors, numHeads: 3, out: vectors })).toThrow(shape);
    expect(() => rope.rotate({ vectors, numHeads: 1, out: new Float32Array(4) })).toThrow(shape);
    expect(() => rope.rotate({ vectors, positions: Uint32Array.of(1), numHeads: 1, out: vectors })).toThrow(shape);
    const option = expect.objectContaining({ code: 'CTKVR_INVALID_OPTION' });
    expect(() => new RotaryEmbedding({ headDim: 4, pairing: 'both' as never })).toThrow(option);
    expect(() => new RotaryEmbedding({ headDim: 4, rotaryDim: 6, pairing: 'half' })).toThrow(option);
    expect(() => new RotaryEmbedding({ headDim: 5, pairing: 'half' })).toThrow(option);
  });
});
