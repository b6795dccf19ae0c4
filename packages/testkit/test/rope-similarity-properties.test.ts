/** Properties of rotation and of the statistics over generated inputs, reference and native. Replay with CTKVR_TEST_SEED=<the seed it names>. */
import type { RopePairing, RopeScaling } from '@ctkvr/rope-similarity';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { propertyParameters, type RopeSimilaritySubject, rotationBudget, roundTripBudget } from '../src/index.js';
import { dot, rowsOf } from '../src/naive.js';
import { reference, tryNative } from './rope-subjects.js';

const headDim = 8;
const factor = fc.integer({ min: 1, max: 64 });
const scaling: fc.Arbitrary<RopeScaling> = fc.oneof(
  fc.constant<RopeScaling>({ type: 'none' }),
  factor.map((factor): RopeScaling => ({ type: 'linear', factor })),
  factor.map((factor): RopeScaling => ({ type: 'ntk', factor })),
  factor.map((factor): RopeScaling => ({ type: 'llama3', factor, originalContext: 512 })),
  factor.map((factor): RopeScaling => ({ type: 'yarn', factor, originalContext: 512 })),
);
const ropeOptions = fc.record({ pairing: fc.constantFrom<RopePairing>('half', 'adjacent'), scaling });
const vector = (length: number) =>
  fc
    .array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: length, maxLength: length })
    .map((x) => Float32Array.from(x));
const position = fc.integer({ min: 0, max: 2 ** 31 - 1 });

function lengthOf(vector: readonly number[]): number {
  return Math.sqrt(dot(vector, vector));
}

function properties({ rope, cosineByDistance, overlapBySimilarity }: RopeSimilaritySubject): void {
  const turned = (options: { pairing: RopePairing; scaling: RopeScaling }, vectors: Float32Array, at: number) => {
    const out = new Float32Array(vectors.length);
    const numHeads = vectors.length / headDim;
    rope({ headDim, ...options }).rotate({ vectors, positions: Uint32Array.of(at), numHeads, out });
    return out;
  };

  it('there and back is the identity, up to two roundings', () =>
    fc.assert(
      fc.property(ropeOptions, vector(2 * headDim), position, (options, x, at) => {
        const there = turned(options, x, at);
        const input = { vectors: there, positions: Uint32Array.of(at), numHeads: 2, out: there };
        rope({ headDim, ...options }).rotateInverse(input);
        for (const [row, head] of rowsOf(x, headDim).entries()) {
          head.forEach((value, d) => {
            // A pair is no longer than its head.
            expect(Math.abs(there[row * headDim + d]! - value)).toBeLessThanOrEqual(roundTripBudget(lengthOf(head)));
          });
        }
      }),
      propertyParameters(60),
    ));

  it('lengths are kept, times the magnitude', () =>
    fc.assert(
      fc.property(ropeOptions, vector(headDim), position, (options, x, at) => {
        const { magnitude } = rope({ headDim, ...options });
        const length = lengthOf(Array.from(x)) * magnitude;
        // One rounding to f32 a value; sqrt(headDim) of them in a vector's length.
        const budget = Math.sqrt(headDim) * 2 ** -24 * length + headDim * 2 ** -50;
        expect(Math.abs(lengthOf(Array.from(turned(options, x, at))) - length)).toBeLessThanOrEqual(budget);
      }),
      propertyParameters(60),
    ));

  it('scores depend on the distance alone', () =>
    fc.assert(
      fc.property(
        ropeOptions,
        vector(headDim),
        vector(headDim),
        fc.integer({ min: 0, max: 1_000_000 }),
        fc.integer({ min: 0, max: 1_000_000 }),
        (options, q, k, distance, shift) => {
          const score = (from: number) =>
            dot(Array.from(turned(options, q, from + distance)), Array.from(turned(options, k, from)));
          const { magnitude } = rope({ headDim, ...options });
          const [lengthQ, lengthK] = [lengthOf(Array.from(q)), lengthOf(Array.from(k))];
          // Each value of each of the four rotated vectors is off by the budget of its pair; frequencies are the same in all.
          const of = { position: distance + shift, frequency: 1, frequencyError: 0, pairLength: 1, magnitude };
          const budget = 4 * Math.sqrt(headDim) * rotationBudget(of) * magnitude * lengthQ * lengthK;
          expect(Math.abs(score(0) - score(shift))).toBeLessThanOrEqual(budget + 2 ** -50);
        },
      ),
      propertyParameters(60),
    ));

  it('heads in another order give the same heads in that order', () =>
    fc.assert(
      fc.asyncProperty(ropeOptions, vector(12 * 3 * headDim), position, async (options, x, at) => {
        const order = [2, 0, 1];
        const permuted = (all: Float32Array) =>
          Float32Array.from(all, (_, i) => {
            const [token, head, d] = [Math.floor(i / (3 * headDim)), Math.floor(i / headDim) % 3, i % headDim];
            return all[(token * 3 + order[head]!) * headDim + d]!;
          });
        const token = x.slice(0, 3 * headDim);
        expect(turned(options, permuted(token), at)).toEqual(permuted(turned(options, token, at)));

        const sizes = { groupSize: 3, headDim };
        const distances = Uint32Array.of(1, 4);
        const plain = await cosineByDistance({ queries: x, ...sizes, distances });
        const moved = await cosineByDistance({ queries: permuted(x), ...sizes, distances });
        [0, 1].forEach((i) => {
          order.forEach((from, head) => {
            expect(moved.headMean[i * 3 + head]).toBe(plain.headMean[i * 3 + from]);
            expect(moved.headStandardDeviation[i * 3 + head]).toBe(plain.headStandardDeviation[i * 3 + from]);
          });
          // The mean over heads is summed in another order.
          expect(Math.abs(moved.mean[i]! - plain.mean[i]!)).toBeLessThanOrEqual(12 * 2 ** -53);
        });

        const integers = x.map(Math.round);
        const input = { ...sizes, keys: integers.slice(0, 20 * headDim), topK: 5, pairs: Uint32Array.of(0, 1, 2, 3) };
        const overlaps = await overlapBySimilarity({ ...input, queries: integers });
        const movedOverlaps = await overlapBySimilarity({ ...input, queries: permuted(integers) });
        expect(movedOverlaps.overlap).toEqual(overlaps.overlap);
        [0, 1].forEach((pair) => {
          order.forEach((from, head) => {
            expect(movedOverlaps.headOverlap[pair * 3 + head]).toBe(overlaps.headOverlap[pair * 3 + from]);
          });
        });
      }),
      propertyParameters(30),
    ));

  it('overlap is symmetric, 1 with itself, and all keys overlap in full', () =>
    fc.assert(
      fc.asyncProperty(vector(4 * headDim), vector(9 * headDim), fc.integer({ min: 1, max: 9 }), async (x, y, topK) => {
        const [queries, keys] = [x.map(Math.round), y.map(Math.round)];
        const input = { queries, keys, groupSize: 1, headDim };
        const pairs = Uint32Array.of(0, 1, 1, 0, 2, 2, 3, 1);
        const { overlap } = await overlapBySimilarity({ ...input, topK, pairs });
        expect(overlap[0]).toBe(overlap[1]);
        expect(overlap[2]).toBe(1);
        const whole = await overlapBySimilarity({ ...input, topK: 9, pairs });
        expect(Array.from(whole.overlap)).toEqual([1, 1, 1, 1]);
      }),
      propertyParameters(30),
    ));

  it('NaN and infinity are refused wherever they stand', () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat({ max: 4 * headDim - 1 }),
        fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
        async (at, bad) => {
          const queries = new Float32Array(4 * headDim).fill(1);
          queries[at] = bad;
          const refused = expect.objectContaining({ code: 'CTKVR_NON_FINITE' });
          const turning = rope({ headDim, pairing: 'half' });
          expect(() => turning.rotate({ vectors: queries, numHeads: 1, out: queries.slice() })).toThrow(refused);
          const sizes = { groupSize: 1, headDim };
          const cosines = cosineByDistance({ queries, ...sizes, distances: Uint32Array.of(1) });
          await expect(cosines).rejects.toThrow(refused);
        },
      ),
      propertyParameters(20),
    ));
}

describe('properties, reference', () => properties(reference));
const loaded = tryNative();
if ('reason' in loaded) it.skip(`native (skipped: ${loaded.reason})`, () => {});
else describe('properties, native', () => properties(loaded.native));
