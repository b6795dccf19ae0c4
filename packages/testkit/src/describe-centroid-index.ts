/**
 * The suite that every centroid index passes: TypeScript reference, Rust scalar, each SIMD level. It compares with the naive definitions,
 * never with another implementation.
 */
import { CtkvrError, type IndexedRegion, type SelectorOptions } from '@ctkvr/core';
import { describe, expect } from 'vitest';
import { expectSameIds } from './compare-ids.js';
import { type ConformanceCase, conformanceCases } from './conformance-data.js';
import { type ConformanceOptions, conformanceTests } from './conformance-skip.js';
import { errorBudget, headScale, int8Budget } from './error-budget.js';
import { groupsOf, naiveInt8 } from './naive.js';
import { naiveHead } from './naive-head.js';
import { naiveVolatility } from './naive-volatility.js';

/** What the suite needs of an index; `CentroidIndex` of @ctkvr/centroid-index has it. */
export interface CentroidIndexSubject {
  readonly numTokens: number;
  readonly numCentroids: number;
  readonly numProbed: number;
  readonly maxCandidates: number;
  readonly region: IndexedRegion;
  readonly sizeBytes: number;
  readonly volatility: number;
  list(centroid: number): Uint32Array;
  tail(centroid: number): { readonly lse: Float32Array; readonly value: Float32Array; readonly key: Float32Array };
  probe(input: { query: Float32Array; centroids: Uint32Array; similarities: Float32Array }): number;
  candidates(input: { centroids: Uint32Array; out: Uint32Array }): number;
  tailAt(input: { centroid: number; query: Float32Array; lse: Float32Array; value: Float32Array }): void;
  close(): void;
}

export interface CentroidIndexInput {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
}

/** Declares the suite. @param make builds an index; it may not keep the input's buffers unchanged for long: each test makes its own. */
export function describeCentroidIndex(
  make: (input: CentroidIndexInput) => Promise<CentroidIndexSubject>,
  options: ConformanceOptions = {},
): void {
  const { test, done } = conformanceTests(options);
  const build = ({ data, options }: ConformanceCase) => make({ ...data, options });

  describe('centroid index conformance', () => {
    for (const conformance of conformanceCases()) {
      const { name, data, options } = conformance;
      const { headDim, groupSize } = data;
      const oracle = naiveHead(data, options);
      const decodes = groupsOf(data.decodes, groupSize, headDim);
      const row = groupSize * headDim;
      const decode = (i: number) => data.decodes.subarray(i * row, (i + 1) * row);
      const allQueries = Float32Array.of(...data.queries, ...data.decodes);
      const budget = errorBudget(headScale({ ...data, queries: allQueries }));

      test(`${name}: lists are the best positions, ascending`, async () => {
        const index = await build(conformance);
        expect(index.numCentroids).toBe(oracle.centroids.length);
        oracle.centroids.forEach(({ list, ranking }, c) => {
          const actual = Array.from(index.list(c));
          expect(actual, `list ${c} ascends`).toEqual([...actual].sort((a, b) => a - b));
          const scoreOf = (position: number) => ranking[position - index.region.start]!;
          expectSameIds({ actual, expected: list, scoreOf, relative: 2 * budget.weight, what: `list ${c}` });
        });
        index.close();
      });

      test(`${name}: tails are what the lists leave out`, async () => {
        const index = await build(conformance);
        oracle.centroids.forEach(({ list, tail }, c) => {
          // Another list within the budget has another tail: nothing to compare then.
          if (index.list(c).join() !== list.join()) return;
          const actual = index.tail(c);
          tail.forEach(({ lse, value, key }, head) => {
            expectNear([actual.lse[head]!], [lse], 2 * budget.lse, `lse of tail ${c}.${head}`);
            for (const [what, expected, all] of [
              ['value', value, actual.value],
              ['key', key, actual.key],
            ] as const) {
              const got = Array.from(all.subarray(head * headDim, (head + 1) * headDim));
              const step = int8Budget(Math.max(...expected.map(Math.abs)));
              expectNear(got, naiveInt8(expected), step + budget.output, `${what} of tail ${c}.${head}`);
            }
          });
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
          expect(new Set(centroids).size, 'no centroid twice').toBe(count);
          // A code one step off moves a similarity by up to step * |query component|, both at most 1 / 127 and 1.
          const slack = 1 / 127;
          centroids.forEach((c, rank) => {
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

      test(`${name}: candidates are the ascending union of lists`, async () => {
        const index = await build(conformance);
        const out = new Uint32Array(index.region.end - index.region.start);
        for (const ids of [[], [0], [index.numCentroids - 1, 0], [0, 0], [...Array(index.numCentroids).keys()]]) {
          const count = index.candidates({ centroids: Uint32Array.from(ids), out });
          const union = [...new Set(ids.flatMap((c) => Array.from(index.list(c))))].sort((a, b) => a - b);
          expect(Array.from(out.subarray(0, count)), `union of ${ids}`).toEqual(union);
        }
        index.close();
      });

      test(`${name}: the volatility is what older lists miss`, async () => {
        // All centroids are probed: which are nearest is another test's matter.
        const numProbes = oracle.centroids.length;
        const index = await build({ ...conformance, options: { ...options, numProbes } });
        const lists = oracle.centroids.map((_, c) => Array.from(index.list(c)));
        const expected = naiveVolatility(data, { region: index.region, lists });
        // A missed weight is off by its budget, and so is the root of the mean of their squares.
        expectNear([index.volatility], [expected], 2 * budget.weight + 1e-6, 'volatility');
        index.close();
      });

      test(`${name}: a tail moves with the query to first order`, async () => {
        const index = await build(conformance);
        const lse = new Float32Array(groupSize);
        const value = new Float32Array(row);
        const centroid = index.numCentroids - 1;
        const tail = index.tail(centroid);
        const own = data.queries.subarray(data.queries.length - row);
        for (const query of [own, ...decodes.map((_, i) => decode(i))]) {
          index.tailAt({ centroid, query, lse, value });
          expect(value).toEqual(tail.value);
          for (let head = 0; head < groupSize; head++) {
            let slope = 0;
            for (let d = head * headDim; d < (head + 1) * headDim; d++) slope += (query[d]! - own[d]!) * tail.key[d]!;
            expectNear(
              [lse[head]!],
              [tail.lse[head]! + slope / Math.sqrt(headDim)],
              4 * budget.lse,
              `lse at ${query[0]}`,
            );
          }
        }
        index.close();
      });
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

    test('close is idempotent, and use after it is CTKVR_CLOSED', async () => {
      const index = await build(typical);
      index.close();
      index.close();
      await expectCode('CTKVR_CLOSED', async () => index.list(0));
    });
  });
  done();
}

/** Expects `run` to reject with a CtkvrError of this code. */
export async function expectCode(code: string, run: () => Promise<unknown>): Promise<void> {
  const thrown = await run().then(
    () => 'nothing was thrown',
    (error: unknown) => (CtkvrError.isInstance(error) ? error.code : error),
  );
  expect(thrown).toBe(code);
}

/** Expects numbers equal up to `budget`; infinities must be equal. */
export function expectNear(actual: readonly number[], expected: readonly number[], budget: number, what: string): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  actual.forEach((x, i) => {
    if (x === expected[i]) return;
    expect(Math.abs(x - expected[i]!), `${what}[${i}] is ${x}, expected ${expected[i]}`).toBeLessThanOrEqual(budget);
  });
}
