/**
 * The suite that every centroid index passes: TypeScript reference, Rust scalar, each SIMD level. It compares with the naive definitions,
 * never with another implementation.
 */
import { describe, expect } from 'vitest';
import { buildCase, type CentroidIndexMaker, type IndexCase } from './centroid-index-subject.js';
import { expectSameIds } from './compare-ids.js';
import { conformanceCases, growthCases } from './conformance-data.js';
import { type ConformanceOptions, conformanceTests } from './conformance-skip.js';
import { describeIndexGrowth } from './describe-index-growth.js';
import { describeMadeUpImages } from './describe-made-up-images.js';
import { describeTail, describeTailCalls } from './describe-tail.js';
import { errorBudget, headScale } from './error-budget.js';
import { expectTypedArrays } from './expect-typed-arrays.js';
import { expectCode, expectNear } from './expectations.js';
import { indexInput } from './head-data.js';
import { groupsOf } from './naive.js';
import { tailOfRows } from './naive-clusters.js';
import { naiveGrowth } from './naive-growth.js';
import { naiveHead } from './naive-head.js';
import { naiveVolatility } from './naive-volatility.js';

/** Declares the suite. */
export function describeCentroidIndex(make: CentroidIndexMaker, options: ConformanceOptions = {}): void {
  const { test, done } = conformanceTests(options);
  const build = (of: IndexCase) => buildCase(make, of);
  const cases: (IndexCase & { readonly name: string })[] = [...conformanceCases(), ...growthCases()];

  describe('centroid index conformance', () => {
    for (const conformance of cases) {
      const { name, data, options, history } = conformance;
      const { headDim, groupSize } = data;
      const layout = history && naiveGrowth(data, options, history);
      const oracle = naiveHead(data, options, layout);
      const decodes = groupsOf(data.decodes, groupSize, headDim);
      const row = groupSize * headDim;
      const decode = (i: number) => data.decodes.subarray(i * row, (i + 1) * row);
      const allQueries = Float32Array.of(...data.queries, ...data.decodes);
      const budget = errorBudget(headScale({ ...data, queries: allQueries }));

      test(`${name}: lists are the best positions, ascending`, async () => {
        const index = await build(conformance);
        expect(index.numCentroids).toBe(oracle.centroids.length);
        expect(index.region).toEqual(oracle.region);
        if (layout !== undefined) {
          const sizes = layout.segments.map(({ end, madeAt, queries }) => ({
            end,
            madeAt,
            numCentroids: queries.length,
          }));
          expect(index.segments).toEqual(sizes);
        }
        oracle.centroids.forEach(({ list, ranking }, c) => {
          const actual = Array.from(index.list(c));
          expect(actual, `list ${c} ascends`).toEqual([...actual].sort((a, b) => a - b));
          const scoreOf = (position: number) => ranking[position - index.region.start]!;
          expectSameIds({ actual, expected: list, scoreOf, relative: 2 * budget.weight, what: `list ${c}` });
        });
        index.close();
      });

      test(`${name}: a probe finds the most similar centroids, best first`, async () => {
        const index = await build(conformance);
        const centroids = new Uint32Array(index.numProbed);
        const similarities = new Float32Array(index.numProbed);
        decodes.forEach((query, i) => {
          const { similarity, probes } = oracle.step(query);
          const count = index.probe({ query: decode(i), centroids, similarities });
          expect(count).toBe(probes.length);
          const found = centroids.subarray(0, count);
          const lists = new Set(Array.from(found, (c) => oracle.centroids[c]!.listId));
          expect(lists.size, 'no list twice').toBe(count);
          // A code one step off moves a similarity by up to step * |query component|, both at most 1 / 127 and 1.
          const slack = 1 / 127;
          found.forEach((c, rank) => {
            expect(Math.abs(similarities[rank]! - similarity[c]!), `similarity of ${c}`).toBeLessThan(slack);
            const wanted = similarity[probes[rank]!]!;
            expect(wanted - similarity[c]!, `rank ${rank}: ${c} instead of ${probes[rank]}`).toBeLessThan(slack);
            if (rank === 0) return;
            const tie = similarities[rank] === similarities[rank - 1];
            expect(similarities[rank]!).toBeLessThanOrEqual(similarities[rank - 1]!);
            if (tie) expect(c, 'ties go to the smaller id').toBeGreaterThan(centroids[rank - 1]!);
          });
        });
        index.close();
      });

      test(`${name}: candidates are the union of lists and of what came after the nearest segment`, async () => {
        const index = await build(conformance);
        const { start, end } = index.region;
        const out = new Uint32Array(end - start);
        const positions = Array.from({ length: end - start }, (_, j) => start + j);
        const last = index.numCentroids - 1;
        for (const ids of [[], [0], [last, 0], [0, last], [0, 0], [...Array(index.numCentroids).keys()]]) {
          const count = index.candidates({ centroids: Uint32Array.from(ids), out });
          const since = ids.length === 0 ? end : oracle.centroids[ids[0]!]!.segmentEnd;
          const lists = new Set(ids.flatMap((c) => Array.from(index.list(c))));
          const union = positions.filter((position) => position >= since || lists.has(position));
          expect(Array.from(out.subarray(0, count)), `union of ${ids}`).toEqual(union);
        }
        const centroids = new Uint32Array(index.numProbed);
        const query = decode(0);
        const probed = index.probe({ query, centroids, similarities: new Float32Array(index.numProbed) });
        const room = new Uint32Array(index.maxCandidates);
        expect(index.candidates({ centroids: centroids.subarray(0, probed), out: room })).toBeGreaterThanOrEqual(0);
        index.close();
      });

      if (history === undefined) {
        test(`${name}: the volatility is what older lists and clusters miss, corrections what the tail does`, async () => {
          // All centroids are probed: which are nearest is another test's matter.
          const numProbes = oracle.centroids.length;
          const index = await build({ ...conformance, options: { ...options, numProbes } });
          const lists = oracle.centroids.map((_, c) => Array.from(index.list(c)));
          const tail = index.tail() && tailOfRows(index.tail()!, headDim);
          const expected = naiveVolatility(data, oracle, { lists, tail, options });
          // A missed weight is off by its budget, and so is the root of the mean of their squares.
          expectNear([index.volatility], [expected.volatility], 2 * budget.weight + 1e-6, 'volatility');
          // As of a probe: a code one step off.
          expectNear([index.similarityFloor], [expected.similarityFloor], 1 / 127, 'similarity floor');
          // Missed weight and tail are off by their budgets, and so is the median of what lies between them.
          const corrections = tail?.corrections ?? expected.corrections;
          expectNear(corrections, expected.corrections, 4 * budget.lse, 'corrections');
          index.close();
        });
      }

      describeTail(make, test, conformance);
    }

    const typical = conformanceCases()[0]!;

    test('more queries than numCentroids: the newest are used', async () => {
      const few = { ...typical, options: { ...typical.options, numCentroids: 5 } };
      const index = await build(few);
      expect(index.numCentroids).toBe(5);
      expect(Array.from(index.list(4))).toEqual(naiveHead(few.data, few.options).centroids[4]!.list);
      index.close();
    });

    for (const what of ['keys', 'values', 'queries'] as const) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        test(`${bad} in ${what} is refused with CTKVR_NON_FINITE`, async () => {
          const numbers = typical.data[what].slice();
          numbers[17] = bad;
          await expectCode('CTKVR_NON_FINITE', () => build({ ...typical, data: { ...typical.data, [what]: numbers } }));
        });
      }
    }

    test('a wrong length is refused with CTKVR_SHAPE_MISMATCH', async () => {
      const { data } = typical;
      for (const what of ['keys', 'values', 'queries'] as const) {
        const short = { ...data, [what]: data[what].subarray(1) };
        await expectCode('CTKVR_SHAPE_MISMATCH', () => build({ ...typical, data: short }));
      }
      const none = { ...data, queries: new Float32Array(0) };
      await expectCode('CTKVR_SHAPE_MISMATCH', () => build({ ...typical, data: none }));
    });

    test('queries, ids and buffers of calls are checked', async () => {
      const index = await build(typical);
      const { headDim, groupSize, decodes } = typical.data;
      const query = decodes.slice(0, groupSize * headDim);
      const centroids = new Uint32Array(index.numProbed);
      const similarities = new Float32Array(index.numProbed);
      const probe = (changed: object) => async () => index.probe({ query, centroids, similarities, ...changed });
      await expectCode('CTKVR_SHAPE_MISMATCH', probe({ query: query.subarray(1) }));
      await expectCode('CTKVR_NON_FINITE', probe({ query: query.slice().fill(Number.NaN, 3, 4) }));
      await expectCode('CTKVR_SHAPE_MISMATCH', probe({ centroids: centroids.subarray(1) }));
      await expectCode('CTKVR_INVALID_OPTION', async () => index.list(index.numCentroids));
      const out = new Uint32Array(1);
      await expectCode('CTKVR_SHAPE_MISMATCH', async () => index.candidates({ centroids: Uint32Array.of(0), out }));
      await expectCode('CTKVR_INVALID_OPTION', async () => index.candidates({ centroids: Uint32Array.of(9999), out }));
      index.close();
    });

    test('buffers that are missing, plain lists or of another class, and unknown names, are refused by name', async () => {
      const { data, options } = typical;
      const { headDim, groupSize, decodes } = data;
      await expectTypedArrays({ ...indexInput(data), options }, (input) => make.build(input));
      const index = await build(typical);
      const { keys, values } = data;
      await expectTypedArrays({ image: await index.save(), keys, values }, (input) => make.load(input));
      const query = decodes.slice(0, groupSize * headDim);
      const centroids = new Uint32Array(index.numProbed);
      const similarities = new Float32Array(index.numProbed);
      await expectTypedArrays({ query, centroids, similarities }, async (input) => index.probe(input));
      const candidates = Uint32Array.of(index.region.start);
      const out = new Uint32Array(index.maxCandidates);
      await expectTypedArrays({ centroids: Uint32Array.of(0), out }, async (input) => index.candidates(input));
      await expectTypedArrays({ query, candidates, out }, async (input) => index.widen(input));
      const rest = { lse: new Float32Array(groupSize), value: new Float32Array(groupSize * headDim) };
      await expectTypedArrays({ query, candidates, ...rest }, async (input) => index.tailAt(input));
      const added = { keys: keys.slice(0, headDim), values: values.slice(0, headDim), queries: query };
      await expectTypedArrays({ ...added, phase: 'decode' as const }, (input) => index.append(input));
      for (const wrong of [undefined, null, Array.from(query), Float64Array.from(query)]) {
        await expectCode('CTKVR_INVALID_OPTION', () => index.insert(wrong as never));
      }
      index.close();
    });

    describeTailCalls(make, test);
    describeIndexGrowth(make, test);
    describeMadeUpImages(make, test);

    test('close is idempotent, and use after it is CTKVR_CLOSED', async () => {
      const index = await build(typical);
      index.close();
      index.close();
      await expectCode('CTKVR_CLOSED', async () => index.list(0));
      await expectCode('CTKVR_CLOSED', () => index.extend());
      await expectCode('CTKVR_CLOSED', () => index.save());
    });
  });
  done();
}
