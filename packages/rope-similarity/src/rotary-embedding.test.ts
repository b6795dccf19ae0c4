/** Replay a property's failure by giving fc.assert the seed that its message names. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type RopePairing, RotaryEmbedding } from './rotary-embedding.js';

const vector = (length: number) =>
  fc
    .array(fc.float({ min: -4, max: 4, noNaN: true }), { minLength: length, maxLength: length })
    .map((x) => Float32Array.from(x));
const pairing = fc.constantFrom<RopePairing>('half', 'adjacent');
const position = fc.integer({ min: 0, max: 200_000 });

function rotated(rope: RotaryEmbedding, vectors: Float32Array, at: number): Float32Array {
  const out = new Float32Array(vectors.length);
  rope.rotate({ vectors, positions: Uint32Array.of(at), numHeads: vectors.length / rope.headDim, out });
  return out;
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0);
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
  it('scores depend on the distance alone, and lengths are kept', () =>
    fc.assert(
      fc.property(vector(16), vector(16), position, position, pairing, (q, k, at, shift, kind) => {
        const rope = new RotaryEmbedding({ headDim: 16, pairing: kind });
        const near = dot(rotated(rope, q, at), rotated(rope, k, 0));
        const far = dot(rotated(rope, q, at + shift), rotated(rope, k, shift));
        // 16 products of numbers up to 4, each with a few f32 roundings.
        expect(Math.abs(near - far)).toBeLessThan(16 * 32 * 8 * 2 ** -24);
        expect(Math.sqrt(dot(rotated(rope, q, at), rotated(rope, q, at)))).toBeCloseTo(Math.sqrt(dot(q, q)), 4);
      }),
    ));
  it('the inverse undoes it, also with the longer vectors of yarn, also in place', () =>
    fc.assert(
      fc.property(vector(32), position, pairing, (x, at, kind) => {
        const scaling = { type: 'yarn', factor: 8, originalContext: 4096 } as const;
        const rope = new RotaryEmbedding({ headDim: 16, pairing: kind, scaling });
        const there = rotated(rope, x, at);
        rope.rotateInverse({ vectors: there, positions: Uint32Array.of(at), numHeads: 2, out: there });
        there.forEach((value, i) => {
          expect(Math.abs(value - x[i]!)).toBeLessThan(8 * 8 * 2 ** -24);
        });
      }),
    ));
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
