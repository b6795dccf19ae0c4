/**
 * What every index's tail promises: its segments cover the region, its clusters are those of the definition, what is found in them and what
 * they stand for is what its own means say. Part of `describeCentroidIndex`.
 */
import type { SelectorOptions } from '@ctkvr/core';
import { expect } from 'vitest';
import {
  buildCase,
  type CentroidIndexMaker,
  type CentroidIndexSubject,
  type IndexCase,
} from './centroid-index-subject.js';
import { expectSameIds } from './compare-ids.js';
import { type ConformanceCase, conformanceCases } from './conformance-data.js';
import { errorBudget, gamma, headScale } from './error-budget.js';
import { expectCode, expectNear } from './expectations.js';
import { f16Bits, f16Value } from './f16.js';
import { indexInput, integerHeadData } from './head-data.js';
import { dot, groupsOf, naiveAttention, naiveScores, rankedIds, rowsOf } from './naive.js';
import { jointRows, type NaiveTailSegment, naiveTailSegment, naiveWeigh, tailOfRows } from './naive-clusters.js';
import { naiveGrowth } from './naive-growth.js';
import { firstLayout } from './naive-head.js';

type NamedTest = (name: string, run: () => Promise<void> | void) => void;

/** Declares the tests of one case with `test`. */
export function describeTail(
  make: CentroidIndexMaker,
  test: NamedTest,
  of: IndexCase & { readonly name: string },
): void {
  const { name, data, options, history } = of;
  const { headDim, groupSize } = data;
  const layout = history === undefined ? firstLayout(data, options) : naiveGrowth(data, options, history);
  const rows = { keys: rowsOf(data.keys, headDim), values: rowsOf(data.values, headDim) };
  const queries = groupsOf(data.decodes, groupSize, headDim);
  const budget = errorBudget(headScale({ ...data, queries: data.decodes }));

  if (!options.tail) {
    test(`${name}: there is none, and nothing is added or left`, async () => {
      const index = await buildCase(make, of);
      expect(index.tail()).toBeNull();
      const taken = Uint32Array.of(index.region.start, index.region.start + 3);
      const query = data.decodes.slice(0, groupSize * headDim);
      expect(widened(index, query, taken)).toEqual(Array.from(taken));
      const { lse, value } = restOf(index, query, taken);
      expect(lse).toEqual(Array(groupSize).fill(Number.NEGATIVE_INFINITY));
      expect(value).toEqual(Array(groupSize * headDim).fill(0));
      index.close();
    });
    return;
  }

  test(`${name}: the tail's segments cover the region, one for each time it grew`, async () => {
    const index = await buildCase(make, of);
    const segments = index.tail()!.segments.map(({ start, madeAt, clusterOf }) => {
      return { start, end: start + clusterOf.length, madeAt };
    });
    expect(segments).toEqual(layout.stretches);
    index.close();
  });

  test(`${name}: clusters are those of the definition, with their means`, async () => {
    const index = await buildCase(make, of);
    for (const segment of tailOfRows(index.tail()!, headDim).segments) {
      const { clusterOf, start, end, keys, values } = segment;
      expectClusters(segment, rows, options);
      for (const [means, all] of [
        [keys, rows.keys],
        [values, rows.values],
      ] as const) {
        means.forEach((mean, c) => {
          const members = all.slice(start, end).filter((_, i) => clusterOf[i] === c);
          expect(members.length, `cluster ${c} has positions`).toBeGreaterThan(0);
          const sums = members.reduce((sum, row) => sum.map((x, d) => x + row[d]!));
          expect(mean).toEqual(sums.map((x) => f16Value(f16Bits(x / members.length))));
        });
      }
    }
    index.close();
  });

  test(`${name}: widening adds the heaviest clusters, the rest is what is left`, async () => {
    const index = await buildCase(make, of);
    const tail = tailOfRows(index.tail()!, headDim);
    queries.forEach((group, i) => {
      const query = data.decodes.slice(i * groupSize * headDim, (i + 1) * groupSize * headDim);
      for (const taken of someCandidates(index, query)) {
        const { shares, positionsOf } = naiveWeigh(tail, group, Array.from(taken));
        const isTaken = new Set(taken);
        const out = widened(index, query, taken);
        const added = new Set(out.filter((position) => !isTaken.has(position)));
        const found = shares.flatMap((_, c) => (positionsOf(c).some((p) => added.has(p)) ? [c] : []));
        const expected = rankedIds(shares, options.clusterProbes).filter((c) => shares[c]! > 0);
        const scoreOf = (c: number) => shares[c]!;
        expectSameIds({ actual: found, expected, scoreOf, relative: 2 * budget.weight, what: 'clusters' });
        expect(out).toEqual([...new Set([...taken, ...found.flatMap(positionsOf)])].sort((a, b) => a - b));

        for (const known of [taken, Uint32Array.from(out)]) {
          const naive = naiveWeigh(tail, group, Array.from(known));
          const { lse, value } = restOf(index, query, known);
          expectNear(lse, naive.lse, 4 * budget.lse, 'lse of the rest');
          expectNear(value, naive.value.flat(), 4 * budget.output, 'value of the rest');
        }
      }
    });
    index.close();
  });
}

/** Declares the tests that need no data of their own, with `test`. */
export function describeTailCalls(make: CentroidIndexMaker, test: NamedTest): void {
  const [typical] = conformanceCases() as [ConformanceCase];
  const { data } = typical;
  const row = data.groupSize * data.headDim;
  const query = data.decodes.slice(0, row);

  test('clusters of one key each: the rest is attention over all keys that are not taken', async () => {
    const options = { ...typical.options, clusterSize: 1, clusterProbes: 0 };
    const index = await make.build({ ...indexInput(data), options });
    const budget = errorBudget(headScale({ ...data, queries: data.decodes }));
    const { start, end } = index.region;
    const taken = Uint32Array.of(start, start + 1, end - 1);
    const { lse, value } = restOf(index, query, taken);
    const corrections = index.tail()!.corrections;
    const left = Array.from({ length: end - start - 3 }, (_, i) => start + 2 + i);
    groupsOf(query, data.groupSize, data.headDim)[0]!.forEach((q, head) => {
      const of = (numbers: Float32Array) => {
        const all = rowsOf(numbers, data.headDim);
        return left.map((position) => all[position]!);
      };
      const exact = naiveAttention(naiveScores(q, of(data.keys)), of(data.values), data.headDim);
      // Nothing falls short but by rounding.
      expectNear([corrections[head]!], [0], 2 * budget.lse, 'correction');
      expectNear([lse[head]!], [exact.lse], 3 * budget.lse, 'lse');
      expectNear(value.slice(head * data.headDim, (head + 1) * data.headDim), exact.mean, budget.output, 'value');
    });
    index.close();
  });

  test('a long region is clustered in stretches, as by definition', async () => {
    const long = integerHeadData({
      seed: 51,
      numTokens: 9000,
      headDim: 16,
      groupSize: 1,
      numCentroids: 1,
      numDecodes: 1,
    });
    const options = { ...typical.options, clusterSize: 400 };
    const index = await make.build({ ...indexInput(long), options });
    const [segment] = tailOfRows(index.tail()!, 16).segments;
    const rows = { keys: rowsOf(long.keys, 16), values: rowsOf(long.values, 16) };
    expectClusters(segment!, rows, options);
    index.close();
  });

  test('with everything taken nothing is left, and widening changes nothing', async () => {
    const index = await make.build({ ...indexInput(data), options: typical.options });
    const { start, end } = index.region;
    const all = Uint32Array.from({ length: end - start }, (_, i) => start + i);
    expect(restOf(index, query, all)).toEqual({
      lse: Array(data.groupSize).fill(Number.NEGATIVE_INFINITY),
      value: Array(row).fill(0),
    });
    expect(widened(index, query, all)).toEqual(Array.from(all));
    index.close();
  });

  test('a tail is a copy, and candidates may be widened in place', async () => {
    const index = await make.build({ ...indexInput(data), options: typical.options });
    const before = index.tail()!;
    index.tail()!.segments[0]!.keys.fill(7);
    expect(index.tail()).toEqual(before);
    const taken = Uint32Array.of(10, 40, 200);
    const out = new Uint32Array(index.maxCandidates);
    out.set(taken);
    const count = index.widen({ query, candidates: out.subarray(0, 3), out });
    expect(Array.from(out.subarray(0, count))).toEqual(widened(index, query, taken));
    index.close();
  });

  test('arguments of widen and tailAt are checked', async () => {
    const index = await make.build({ ...indexInput(data), options: typical.options });
    const { start, end } = index.region;
    const out = new Uint32Array(index.maxCandidates);
    const lse = new Float32Array(data.groupSize);
    const value = new Float32Array(row);
    const given = { query, candidates: Uint32Array.of(20, 30) };
    const [toWiden, toTail] = [
      { ...given, out },
      { ...given, lse, value },
    ];
    const calls = [
      (changed: object) => async () => index.widen({ ...toWiden, ...changed }),
      (changed: object) => async () => index.tailAt({ ...toTail, ...changed }),
    ];
    for (const run of calls) {
      for (const wrong of [[30, 20], [20, 20], [start - 1], [20, end], [2 ** 32 - 1]]) {
        await expectCode('CTKVR_INVALID_OPTION', run({ candidates: Uint32Array.from(wrong) }));
      }
      await expectCode('CTKVR_SHAPE_MISMATCH', run({ query: query.subarray(1) }));
      await expectCode('CTKVR_NON_FINITE', run({ query: query.slice().fill(Number.NaN, 3, 4) }));
    }
    await expectCode('CTKVR_SHAPE_MISMATCH', async () => index.widen({ ...toWiden, out: out.subarray(0, 1) }));
    await expectCode('CTKVR_SHAPE_MISMATCH', async () => index.tailAt({ ...toTail, lse: lse.subarray(1) }));
    await expectCode('CTKVR_SHAPE_MISMATCH', async () => index.tailAt({ ...toTail, value: value.subarray(1) }));
    index.close();
    await expectCode('CTKVR_CLOSED', async () => index.tail());
    await expectCode('CTKVR_CLOSED', async () => index.widen(toWiden));
    await expectCode('CTKVR_CLOSED', async () => index.tailAt(toTail));
  });
}

/** Nothing, what a probe finds, every third position. */
function someCandidates(index: CentroidIndexSubject, query: Float32Array): Uint32Array<ArrayBuffer>[] {
  const { start, end } = index.region;
  const centroids = new Uint32Array(index.numProbed);
  const count = index.probe({ query, centroids, similarities: new Float32Array(index.numProbed) });
  const union = new Uint32Array(index.maxCandidates);
  const found = index.candidates({ centroids: centroids.subarray(0, count), out: union });
  const thirds = Uint32Array.from({ length: Math.floor((end - start) / 3) }, (_, i) => start + 3 * i);
  return [new Uint32Array(0), union.slice(0, found), thirds];
}

function widened(index: CentroidIndexSubject, query: Float32Array, candidates: Uint32Array): number[] {
  const out = new Uint32Array(Math.max(index.maxCandidates, candidates.length));
  return Array.from(out.subarray(0, index.widen({ query, candidates, out })));
}

function restOf(index: CentroidIndexSubject, query: Float32Array, candidates: Uint32Array) {
  const [lse, value] = [new Float32Array(query.length), new Float32Array(query.length)];
  index.tailAt({ query, candidates, lse, value });
  return { lse: Array.from(lse.subarray(0, index.groupSize)), value: Array.from(value) };
}

/**
 * Expects the clusters of the definition. Others are accepted only where the definition itself hangs on two centres that are as near as
 * rounding tells, and then of few positions. The likeness of a row to a centre, row . centre - |centre|^2 / 2, is off by gamma of as many
 * terms as a row has, twice, and by the centre's own error, a mean of some `clusterSize` rows.
 */
function expectClusters(
  segment: NaiveTailSegment,
  rows: { readonly keys: readonly (readonly number[])[]; readonly values: readonly (readonly number[])[] },
  options: SelectorOptions,
): void {
  const { clusterOf, start, end } = segment;
  const naive = naiveTailSegment(rows, segment, options);
  const elsewhere = clusterOf.filter((cluster, i) => cluster !== naive.clusterOf[i]).length;
  if (elsewhere === 0) return;
  const joint = jointRows(rows.keys.slice(start, end), rows.values.slice(start, end));
  const largest = Math.max(...joint.map((row) => dot(row, row)));
  const budget = 4 * gamma(joint[0]!.length + 2 * options.clusterSize + 4) * largest;
  expect(naive.margin, `${elsewhere} positions in other clusters`).toBeLessThan(budget);
  expect(elsewhere).toBeLessThan(0.1 * clusterOf.length);
}
