/** The suite that every implementation of @ctkvr/rope-similarity passes, against the naive definitions, never against another one. */
import type {
  CosineByDistance,
  CosineByDistanceInput,
  OverlapBySimilarity,
  OverlapBySimilarityInput,
  RopeOptions,
  RopeScaling,
  RotateAsyncInput,
  RotateInput,
} from '@ctkvr/rope-similarity';
import { describe, expect } from 'vitest';
import { type ConformanceOptions, conformanceTests } from './conformance-skip.js';
import { expectTypedArrays } from './expect-typed-arrays.js';
import { expectCode, expectNear } from './expectations.js';
import { geometricHeadData } from './geometric-head-data.js';
import { integerHeadData } from './head-data.js';
import { groupsOf, rowsOf } from './naive.js';
import {
  type NaiveStatistics,
  naiveCosine,
  naiveCosineByDistance,
  naiveFrequencies,
  naiveOverlap,
  naivePair,
  naiveRotated,
} from './naive-rope.js';
import { createRandom } from './random.js';
import { cosineBudget, frequencyBudget, rotationBudget, roundTripBudget } from './rope-budget.js';

/** What the suite needs; the package's class and functions with a backend chosen have it. */
export interface RopeSimilaritySubject {
  rope(options: Omit<RopeOptions, 'backend' | 'native'>): RotarySubject;
  cosineByDistance(input: Omit<CosineByDistanceInput, 'backend' | 'native'>): Promise<CosineByDistance>;
  overlapBySimilarity(input: Omit<OverlapBySimilarityInput, 'backend' | 'native'>): Promise<OverlapBySimilarity>;
}

export interface RotarySubject {
  readonly frequencies: Float64Array;
  readonly magnitude: number;
  rotate(input: RotateInput): void;
  rotateInverse(input: RotateInput): void;
  rotateAsync(input: RotateAsyncInput): Promise<void>;
}

interface RopeCase {
  readonly name: string;
  readonly options: Required<Omit<RopeOptions, 'backend' | 'native'>>;
  readonly magnitude: number;
}

/** Every scaling in both pairings, with sizes on both sides of what blocks and SIMD widths like. */
export function ropeCases(): RopeCase[] {
  const scalings: [RopeScaling, number, number][] = [
    [{ type: 'none' }, 10_000, 1],
    [{ type: 'linear', factor: 4 }, 10_000, 1],
    [{ type: 'ntk', factor: 8 }, 10_000, 1],
    [{ type: 'dynamicNtk', factor: 2, originalContext: 4096, numTokens: 4000 }, 10_000, 1],
    [{ type: 'dynamicNtk', factor: 2, originalContext: 4096, numTokens: 20_000 }, 10_000, 1],
    [{ type: 'llama3', factor: 8, originalContext: 8192 }, 500_000, 1],
    [{ type: 'yarn', factor: 4, originalContext: 32_768 }, 1_000_000, 0.1 * Math.log(4) + 1],
    [{ type: 'yarn', factor: 32, originalContext: 4096, truncate: false, attentionFactor: 0.75 }, 150_000, 0.75],
  ];
  const sizes = [
    { headDim: 64, rotaryDim: 64 },
    { headDim: 20, rotaryDim: 6 },
    { headDim: 2, rotaryDim: 2 },
  ];
  return scalings
    .flatMap(([scaling, freqBase, magnitude], i) =>
      (['half', 'adjacent'] as const).map((pairing) => ({
        name: `${scaling.type} (${i}), ${pairing}`,
        options: { ...sizes[scaling.type === 'none' ? 1 : 0]!, pairing, freqBase, scaling },
        magnitude,
      })),
    )
    .concat([
      {
        name: 'a head of one pair',
        options: { ...sizes[2]!, pairing: 'half', freqBase: 10_000, scaling: { type: 'ntk', factor: 4 } },
        magnitude: 1,
      },
    ]);
}

/** Declares the suite. @param make returns the implementation, for each test its own. */
export function describeRopeSimilarity(make: () => RopeSimilaritySubject, options: ConformanceOptions = {}): void {
  const { test, done } = conformanceTests(options);
  const numHeads = 3;
  const positions = Uint32Array.of(0, 1, 2, 999, 131_071, 4_000_000_000, 7);

  describe('rope similarity conformance', () => {
    for (const { name, options, magnitude } of ropeCases()) {
      const { headDim, rotaryDim, pairing, freqBase, scaling } = options;
      const plain = naiveFrequencies(rotaryDim, freqBase, { type: 'none' });
      const frequencies = naiveFrequencies(rotaryDim, freqBase, scaling);
      // NTK's grown base is less than 100 times as large here.
      const share = frequencyBudget(100 * freqBase);
      const random = createRandom(31);
      const vectors = Float32Array.from({ length: positions.length * numHeads * headDim }, () => 2 * random.normal());

      test(`${name}: frequencies and magnitude are the formula's`, () => {
        const rope = make().rope(options);
        expect(rope.frequencies.length).toBe(rotaryDim / 2);
        frequencies.forEach((f, i) => {
          expectNear([rope.frequencies[i]!], [f], share * plain[i]!, `frequency ${i}`);
        });
        expectNear([rope.magnitude], [magnitude], 4 * 2 ** -53, 'magnitude');
      });

      test(`${name}: every pair turns by position times frequency, the rest stays`, () => {
        const out = new Float32Array(vectors.length + 5);
        make().rope(options).rotate({ vectors, positions, numHeads, out });
        rowsOf(vectors, headDim).forEach((head, row) => {
          const position = positions[Math.floor(row / numHeads)]!;
          const expected = naiveRotated(head, { position, frequencies, magnitude, pairing });
          const actual = Array.from(out.subarray(row * headDim, (row + 1) * headDim));
          expect(actual.slice(rotaryDim)).toEqual(head.slice(rotaryDim));
          frequencies.forEach((frequency, i) => {
            const at = naivePair(i, rotaryDim, pairing);
            const pairLength = Math.hypot(...at.map((d) => head[d]!));
            const frequencyError = 2 * share * plain[i]!;
            const budget = rotationBudget({ position, frequency, frequencyError, pairLength, magnitude });
            for (const d of at)
              expectNear([actual[d]!], [expected[d]!], budget, `position ${position}, dimension ${d}`);
          });
        });
        expect(Array.from(out.subarray(vectors.length)), 'beyond the vectors').toEqual([0, 0, 0, 0, 0]);
      });

      test(`${name}: the inverse undoes it, in place`, () => {
        const rope = make().rope(options);
        const there = vectors.slice();
        rope.rotate({ vectors: there, positions, numHeads, out: there });
        rope.rotateInverse({ vectors: there, positions, numHeads, out: there });
        rowsOf(vectors, headDim).forEach((head, row) => {
          for (let i = 0; i < rotaryDim / 2; i++) {
            const at = naivePair(i, rotaryDim, pairing);
            const budget = roundTripBudget(Math.hypot(...at.map((d) => head[d]!)));
            for (const d of at)
              expectNear([there[row * headDim + d]!], [head[d]!], budget, `row ${row}, dimension ${d}`);
          }
        });
      });

      test(`${name}: off the JavaScript thread the same bits`, async () => {
        const rope = make().rope(options);
        for (const inverse of [false, true]) {
          const [now, later] = [new Float32Array(vectors.length), new Float32Array(vectors.length)];
          rope[inverse ? 'rotateInverse' : 'rotate']({ vectors, positions, numHeads, out: now });
          await rope.rotateAsync({ vectors, positions, numHeads, out: later, inverse });
          expect(later).toEqual(now);
        }
      });
    }

    test('positions default to 0, 1, 2, ...', () => {
      const rope = make().rope({ headDim: 8, pairing: 'half' });
      const vectors = new Float32Array(4 * 2 * 8).fill(1);
      const [given, implied] = [vectors.slice(), vectors.slice()];
      rope.rotate({ vectors, positions: Uint32Array.of(0, 1, 2, 3), numHeads: 2, out: given });
      rope.rotate({ vectors, numHeads: 2, out: implied });
      expect(implied).toEqual(given);
    });

    const integers = integerHeadData({
      seed: 41,
      numTokens: 120,
      headDim: 12,
      groupSize: 3,
      numCentroids: 40,
      numDecodes: 1,
      distinctQueries: 9,
      distinctKeys: 50,
    });
    integers.queries.fill(0, 5 * 36 + 12, 5 * 36 + 24); // one head of zeros
    const geometric = geometricHeadData({
      seed: 42,
      numTokens: 150,
      headDim: 64,
      groupSize: 2,
      numCentroids: 90,
      numDecodes: 1,
    });
    for (const [name, data] of Object.entries({ integers, geometric })) {
      const { queries, keys, groupSize, headDim } = data;
      const groups = groupsOf(queries, groupSize, headDim);

      test(`${name}: cosines by distance`, async () => {
        const distances = Uint32Array.of(1, 0, 3, 17, groups.length - 1, groups.length, 4_000_000_000);
        const found = await make().cosineByDistance({ queries, groupSize, headDim, distances });
        expect(found.distances).toEqual(distances);
        distances.forEach((distance, i) => {
          const { group, heads } = naiveCosineByDistance(groups, groupSize, distance);
          expect(found.count[i]).toBe(group.count);
          const budget = cosineBudget({ headDim, count: group.count });
          const { mean, min, max, standardDeviation } = found;
          expectStatistics({ mean, min, max, standardDeviation }, i, group, budget);
          const { headMean, headMin, headMax, headStandardDeviation } = found;
          const ofHeads = { mean: headMean, min: headMin, max: headMax, standardDeviation: headStandardDeviation };
          heads.forEach((head, h) => {
            expectStatistics(ofHeads, i * groupSize + h, head, budget);
          });
        });
      });

      test(`${name}: overlap of top keys by similarity`, async () => {
        const pairs = Uint32Array.of(0, 1, 1, 2, 2, 2, 3, 1, 1, 3, 5, 0, 0, 1, 39, 38, 0, 39);
        // Sums of small integers are exact, and so are ties; geometric scores are further apart than f64 rounding could matter.
        for (const topK of [1, 10, keys.length / headDim]) {
          const found = await make().overlapBySimilarity({ queries, keys, groupSize, headDim, topK, pairs });
          const budget = cosineBudget({ headDim, count: groupSize });
          for (let pair = 0; pair < pairs.length / 2; pair++) {
            const [a, b] = [groups[pairs[2 * pair]!]!, groups[pairs[2 * pair + 1]!]!];
            const { group, heads } = naiveOverlap(a, b, rowsOf(keys, headDim), topK);
            const ofPair = (values: Float64Array) =>
              Array.from(values.subarray(pair * groupSize, (pair + 1) * groupSize));
            expect(found.overlap[pair], `overlap of pair ${pair}`).toBe(group);
            expect(ofPair(found.headOverlap), `head overlaps of pair ${pair}`).toEqual(heads);
            const cosines = a.map((head, h) => naiveCosine(head, b[h]!));
            expectNear(ofPair(found.headSimilarity), cosines, budget, 'head similarity');
            const mean = cosines.reduce((sum, x) => sum + x, 0) / groupSize;
            expectNear([found.similarity[pair]!], [mean], budget, 'similarity');
          }
        }
      });
    }

    test('nothing in, nothing out', async () => {
      const { rope, cosineByDistance, overlapBySimilarity } = make();
      const none = new Float32Array(0);
      rope({ headDim: 4, pairing: 'adjacent' }).rotate({ vectors: none, numHeads: 2, out: none });
      await rope({ headDim: 4, pairing: 'adjacent' }).rotateAsync({ vectors: none, numHeads: 2, out: none });
      const sizes = { groupSize: 2, headDim: 4 };
      const cosines = await cosineByDistance({ queries: none, ...sizes, distances: Uint32Array.of(1) });
      expect([Array.from(cosines.count), Array.from(cosines.headMax)]).toEqual([[0], [Number.NaN, Number.NaN]]);
      const noDistances = await cosineByDistance({ queries: none, ...sizes, distances: new Uint32Array(0) });
      expect(noDistances.mean.length).toBe(0);
      const keys = new Float32Array(4);
      const overlaps = await overlapBySimilarity({ queries: none, keys, ...sizes, topK: 1, pairs: new Uint32Array(0) });
      expect([overlaps.overlap.length, overlaps.headSimilarity.length]).toEqual([0, 0]);
    });

    test('bad options, shapes and numbers are refused with their codes', async () => {
      const { rope, cosineByDistance, overlapBySimilarity } = make();
      const base = { headDim: 4, pairing: 'half' } as const;
      for (const bad of [
        { headDim: 5 },
        { headDim: 0 },
        { rotaryDim: 3 },
        { rotaryDim: 6 },
        { pairing: 'both' as never },
        { freqBase: 1 },
        { freqBase: Number.NaN },
        { scaling: { type: 'longrope', factor: 2 } as never },
        { scaling: { type: 'linear', factor: 0.5 } as const },
        { scaling: { type: 'ntk', factor: Number.POSITIVE_INFINITY } as const },
        { scaling: { type: 'dynamicNtk', factor: 2, originalContext: 0, numTokens: 1 } as const },
        { scaling: { type: 'llama3', factor: 2, originalContext: 9, lowFreqFactor: 4 } as const },
        { scaling: { type: 'yarn', factor: 2, originalContext: 9, betaFast: 1 } as const },
        { scaling: { type: 'yarn', factor: 2, originalContext: 9, attentionFactor: 0 } as const },
      ]) {
        await expectCode('CTKVR_INVALID_OPTION', async () => rope({ ...base, ...bad }));
      }

      const turning = rope(base);
      const vectors = new Float32Array(8).fill(1);
      for (const [code, bad] of [
        ['CTKVR_SHAPE_MISMATCH', { numHeads: 3 }],
        ['CTKVR_SHAPE_MISMATCH', { out: new Float32Array(4) }],
        ['CTKVR_SHAPE_MISMATCH', { positions: Uint32Array.of(1) }],
        ['CTKVR_INVALID_OPTION', { numHeads: 0 }],
        ['CTKVR_NON_FINITE', { vectors: vectors.slice().fill(Number.NaN, 7) }],
        ['CTKVR_NON_FINITE', { vectors: vectors.slice().fill(Number.NEGATIVE_INFINITY, 0, 1) }],
      ] as const) {
        const input: RotateInput = { ...{ vectors, numHeads: 1, out: new Float32Array(8) }, ...bad };
        await expectCode(code, async () => turning.rotate(input));
        await expectCode(code, async () => turning.rotateInverse(input));
        await expectCode(code, async () => await turning.rotateAsync(input));
      }

      const queries = new Float32Array(8).fill(1);
      const cosines = { queries, groupSize: 1, headDim: 4, distances: Uint32Array.of(1) };
      const overlaps = { queries, keys: queries, groupSize: 1, headDim: 4, topK: 1, pairs: Uint32Array.of(0, 1) };
      for (const [code, bad] of [
        ['CTKVR_SHAPE_MISMATCH', { queries: queries.subarray(1) }],
        ['CTKVR_NON_FINITE', { queries: queries.slice().fill(Number.POSITIVE_INFINITY, 3, 4) }],
        ['CTKVR_INVALID_OPTION', { groupSize: 0 }],
        ['CTKVR_INVALID_OPTION', { headDim: 1.5 }],
      ] as const) {
        await expectCode(code, async () => await cosineByDistance({ ...cosines, ...bad }));
        await expectCode(code, async () => await overlapBySimilarity({ ...overlaps, ...bad }));
      }
      for (const [code, bad] of [
        ['CTKVR_SHAPE_MISMATCH', { keys: queries.subarray(1) }],
        ['CTKVR_SHAPE_MISMATCH', { pairs: Uint32Array.of(0) }],
        ['CTKVR_NON_FINITE', { keys: queries.slice().fill(Number.NaN, 3, 4) }],
        ['CTKVR_INVALID_OPTION', { pairs: Uint32Array.of(0, 2) }],
        ['CTKVR_INVALID_OPTION', { topK: 0 }],
        ['CTKVR_INVALID_OPTION', { topK: 3 }],
        ['CTKVR_INVALID_OPTION', { keys: new Float32Array(0) }],
      ] as const) {
        await expectCode(code, async () => await overlapBySimilarity({ ...overlaps, ...bad }));
      }
    });

    test('buffers that are missing, plain lists or of another class, and unknown names, are refused by name', async () => {
      const { rope, cosineByDistance, overlapBySimilarity } = make();
      const queries = new Float32Array(8).fill(1);
      const sizes = { groupSize: 1, headDim: 4 };
      await expectTypedArrays({ queries, ...sizes, distances: Uint32Array.of(1) }, (input) => cosineByDistance(input));
      const pairs = Uint32Array.of(0, 1);
      const overlaps = { queries, keys: queries, ...sizes, topK: 1, pairs };
      await expectTypedArrays(overlaps, (input) => overlapBySimilarity(input));
      const turning = rope({ headDim: 4, pairing: 'half' });
      const turn = { vectors: queries, numHeads: 1, out: new Float32Array(8) };
      await expectTypedArrays(turn, async (input) => turning.rotate(input));
      await expectTypedArrays(turn, async (input) => turning.rotateInverse(input));
      await expectTypedArrays(turn, (input) => turning.rotateAsync(input));
      const bogus = { headDim: 4, pairing: 'half', rotatedDim: 2 } as never;
      await expectCode('CTKVR_INVALID_OPTION', async () => rope(bogus));
      const scaling = { type: 'linear', factor: 2, originalContext: 9 } as never;
      await expectCode('CTKVR_INVALID_OPTION', async () => rope({ headDim: 4, pairing: 'half', scaling }));
    });

    test('what was aborted before it began does nothing', async () => {
      const { rope, cosineByDistance } = make();
      const signal = AbortSignal.abort();
      const queries = new Float32Array(8).fill(1);
      const sizes = { groupSize: 1, headDim: 4, distances: Uint32Array.of(1) };
      await expectCode('CTKVR_ABORTED', async () => await cosineByDistance({ queries, ...sizes, signal }));
      const out = new Float32Array(8);
      const turning = rope({ headDim: 4, pairing: 'half' });
      await expectCode(
        'CTKVR_ABORTED',
        async () => await turning.rotateAsync({ vectors: queries, numHeads: 1, out, signal }),
      );
      expect(out).toEqual(new Float32Array(8));
    });
  });
  done();
}

function expectStatistics(
  actual: Readonly<Record<Exclude<keyof NaiveStatistics, 'count'>, Float64Array>>,
  at: number,
  expected: NaiveStatistics,
  budget: number,
): void {
  for (const what of ['mean', 'min', 'max', 'standardDeviation'] as const) {
    if (expected.count === 0) expect(actual[what][at], what).toBeNaN();
    else expectNear([actual[what][at]!], [expected[what]], budget, what);
  }
}
