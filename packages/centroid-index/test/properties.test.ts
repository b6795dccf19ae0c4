/** Properties of the reference index over generated inputs. Replay a failure with CTKVR_TEST_SEED=<the seed it names>. */
import { resolveSelectorOptions, type SelectorOptions } from '@ctkvr/core';
import { indexInput, integerHeadData, propertyParameters } from '@ctkvr/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildCentroidIndex, type CentroidIndex } from '../src/index.js';

const settings = fc.record({
  seed: fc.integer({ min: 0, max: 1e6 }),
  numTokens: fc.integer({ min: 1, max: 80 }),
  groupSize: fc.integer({ min: 1, max: 4 }),
  numCentroids: fc.integer({ min: 1, max: 20 }),
  distinctKeys: fc.integer({ min: 1, max: 80 }),
  numSinkTokens: fc.integer({ min: 0, max: 6 }),
  recentWindow: fc.integer({ min: 1, max: 12 }),
  listLength: fc.integer({ min: 1, max: 100 }),
  numProbes: fc.integer({ min: 1, max: 24 }),
});
type Settings = typeof settings extends fc.Arbitrary<infer T> ? T : never;

function dataOf({ seed, numTokens, groupSize, numCentroids, distinctKeys }: Settings) {
  const sizes = { seed, numTokens, headDim: 4, groupSize, numCentroids, numDecodes: 1, distinctKeys };
  return integerHeadData(sizes);
}

function optionsOf({ numSinkTokens, recentWindow, numCentroids, listLength, numProbes }: Settings): SelectorOptions {
  return resolveSelectorOptions({
    numSinkTokens,
    recentWindow,
    numCentroids,
    centroidsPerList: 1,
    listLength,
    numProbes,
  });
}

function listsOf(index: CentroidIndex): number[][] {
  return Array.from({ length: index.numCentroids }, (_, c) => Array.from(index.list(c)));
}

async function check(property: (of: Settings) => Promise<void>): Promise<void> {
  await fc.assert(fc.asyncProperty(settings, property), propertyParameters(60));
}

describe('centroid index properties', () => {
  it('lists hold min(listLength, region) positions of the region, ascending, once each', () =>
    check(async (of) => {
      const index = await buildCentroidIndex({ ...indexInput(dataOf(of)), options: optionsOf(of) });
      const { start, end } = index.region;
      for (const list of listsOf(index)) {
        expect(list.length).toBe(Math.min(of.listLength, end - start));
        list.forEach((position, i) => {
          expect(position).toBeGreaterThanOrEqual(i === 0 ? start : list[i - 1]! + 1);
          expect(position).toBeLessThan(end);
        });
      }
    }));

  it('the order of query heads changes no list', () =>
    check(async (of) => {
      const data = dataOf(of);
      const [n, row] = [data.headDim, data.headDim * data.groupSize];
      // Head h of every centroid becomes head groupSize - 1 - h.
      const queries = data.queries.map((_, i) => {
        const head = Math.floor((i % row) / n);
        return data.queries[Math.floor(i / row) * row + (data.groupSize - 1 - head) * n + (i % n)]!;
      });
      const input = { ...indexInput(data), options: optionsOf(of) };
      const lists = listsOf(await buildCentroidIndex(input));
      const reversed = listsOf(await buildCentroidIndex({ ...input, queries }));
      // Addition over heads in another order may swap keys of equal sums; their scores must then be equal.
      lists.forEach((list, c) => {
        const swapped = list.filter((position) => !reversed[c]!.includes(position));
        const instead = reversed[c]!.filter((position) => !list.includes(position));
        const weight = (position: number) => groupWeight(data, c, position);
        const total = (positions: number[]) => positions.reduce((sum, position) => sum + weight(position), 0);
        expect(Math.abs(total(swapped) - total(instead))).toBeLessThanOrEqual(1e-12 * Math.max(1, total(swapped)));
      });
    }));

  it('equal keys: a list takes the earliest of them', () =>
    check(async (of) => {
      const data = dataOf({ ...of, distinctKeys: 3 });
      const index = await buildCentroidIndex({ ...indexInput(data), options: optionsOf(of) });
      const keyAt = (position: number) => data.keys.slice(position * 4, position * 4 + 4).join();
      for (const list of listsOf(index)) {
        for (let position = index.region.start; position < index.region.end; position++) {
          if (list.includes(position)) continue;
          const later = list.filter((other) => other > position && keyAt(other) === keyAt(position));
          expect(later, `${position} was passed over for an equal key behind it`).toEqual([]);
        }
      }
    }));

  it('equal centroids: a probe names them in the order of their ids', () =>
    check(async (of) => {
      const data = dataOf(of);
      const row = data.headDim * data.groupSize;
      const queries = data.queries.map((_, i) => data.queries[i % row]!);
      const index = await buildCentroidIndex({ ...indexInput(data), queries, options: optionsOf(of) });
      const centroids = new Uint32Array(index.numProbed);
      const similarities = new Float32Array(index.numProbed);
      index.probe({ query: data.decodes, centroids, similarities });
      expect(Array.from(centroids)).toEqual(Array.from(centroids.keys()));
    }));

  it('scaling a query changes no probe', () =>
    check(async (of) => {
      const data = dataOf(of);
      const index = await buildCentroidIndex({ ...indexInput(data), options: optionsOf(of) });
      const probe = (query: Float32Array) => {
        const centroids = new Uint32Array(index.numProbed);
        index.probe({ query, centroids, similarities: new Float32Array(index.numProbed) });
        return centroids;
      };
      expect(probe(data.decodes.map((x) => 8 * x))).toEqual(probe(data.decodes));
    }));

  it('maxCandidates bounds the union of any probe', () =>
    check(async (of) => {
      const data = dataOf(of);
      const index = await buildCentroidIndex({ ...indexInput(data), options: optionsOf(of) });
      const centroids = new Uint32Array(index.numProbed);
      index.probe({ query: data.decodes, centroids, similarities: new Float32Array(index.numProbed) });
      const out = new Uint32Array(index.maxCandidates);
      expect(index.candidates({ centroids, out })).toBeLessThanOrEqual(index.maxCandidates);
    }));

  it('one bad number anywhere is CTKVR_NON_FINITE', () =>
    fc.assert(
      fc.asyncProperty(
        settings,
        fc.constantFrom('keys', 'values', 'queries' as const),
        fc.nat(),
        fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
        async (of, what, at, bad) => {
          const data = dataOf(of);
          const numbers = data[what].slice();
          const index = at % numbers.length;
          numbers[index] = bad;
          await expect(
            buildCentroidIndex({ ...indexInput(data), [what]: numbers, options: optionsOf(of) }),
          ).rejects.toMatchObject({
            code: 'CTKVR_NON_FINITE',
            fields: { argument: what, index },
          });
        },
      ),
      propertyParameters(60),
    ));
});

function groupWeight(data: ReturnType<typeof dataOf>, centroid: number, position: number): number {
  const { headDim, groupSize, keys, queries } = data;
  let sum = 0;
  for (let head = 0; head < groupSize; head++) {
    const at = (centroid * groupSize + head) * headDim;
    const score = (j: number) => {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += queries[at + d]! * keys[j * headDim + d]!;
      return dot / Math.sqrt(headDim);
    };
    let total = 0;
    for (let j = 0; j < keys.length / headDim; j++) total += Math.exp(score(j));
    sum += Math.exp(score(position)) / total;
  }
  return sum;
}
