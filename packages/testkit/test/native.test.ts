/**
 * The native index, every instruction set this machine has, through the same suites as the reference. Skipped, with the reason in the
 * name of the skipped test, when there is no binary for this platform.
 *
 * The algorithm packages are imported by path: declared as dependencies they would close a cycle, since they test with this package.
 */
import { CtkvrError, resolveSelectorOptions } from '@ctkvr/core';
import { loadBinding, type NativeBinding, type NativeCentroidIndex } from '@ctkvr/native';
import { afterAll, describe, expect, it } from 'vitest';
import {
  buildCentroidIndex,
  type CentroidIndex,
  loadCentroidIndex,
  spreadQueries,
} from '../../centroid-index/src/index.js';
import { TokenRefiner } from '../../token-refiner/src/index.js';
import {
  buildCase,
  type CentroidIndexMaker,
  type ConformanceCase,
  conformanceCases,
  describeCentroidIndex,
  describeTokenRefiner,
  errorBudget,
  expectNear,
  expectSameIds,
  type GrowthHistory,
  gamma,
  geometricHeadData,
  growthCases,
  headScale,
  indexInput,
  integerHeadData,
  live,
  naiveGrowth,
  naiveHead,
  tailOfRows,
} from '../src/index.js';
import { groupsOf } from '../src/naive.js';

function tryLoad(): { native: NativeBinding; isas: readonly string[] } | { reason: string } {
  try {
    const native = loadBinding();
    return { native, isas: native.buildInfo().availableIsas };
  } catch (error) {
    if (!CtkvrError.isInstance(error) || error.code !== 'CTKVR_NATIVE_UNAVAILABLE') throw error;
    return { reason: error.message.split('\n')[0]! };
  }
}

const loaded = tryLoad();
if ('reason' in loaded) {
  it.skip(`native conformance (skipped: ${loaded.reason})`, () => {});
} else {
  const { native, isas } = loaded;
  const makers = (isa: string): CentroidIndexMaker => ({
    build: (input) => buildCentroidIndex({ ...input, backend: 'native', native, isa }),
    load: (input) => loadCentroidIndex({ ...input, backend: 'native', native, isa }),
  });
  interface IndexCase extends ConformanceCase {
    readonly history?: GrowthHistory;
  }
  describe.each(isas)('native, %s', (isa) => {
    describeCentroidIndex(makers(isa));

    describe('an image of one backend is read by the other', () => {
      const reference: CentroidIndexMaker = {
        build: (input) => buildCentroidIndex({ ...input, backend: 'reference' }),
        load: (input) => loadCentroidIndex({ ...input, backend: 'reference' }),
      };
      for (const growth of growthCases()) {
        it(growth.name, async () => {
          for (const [from, to] of [
            [reference, makers(isa)],
            [makers(isa), reference],
          ] as const) {
            const saved = await buildCase(from, growth);
            const image = await saved.save();
            const { keys, values, decodes } = growth.data;
            const loaded = await to.load({ image, keys, values });
            expect(Buffer.compare(await loaded.save(), image)).toBe(0);
            expect(loaded).toMatchObject({
              numTokens: saved.numTokens,
              region: saved.region,
              segments: saved.segments,
            });
            for (let c = 0; c < saved.numCentroids; c++) {
              expect(loaded.list(c)).toEqual(saved.list(c));
            }
            expect(loaded.tail()).toEqual(saved.tail());
            const query = decodes.slice(0, 32);
            const similarities = [saved, loaded].map((index) => {
              const room = {
                centroids: new Uint32Array(index.numProbed),
                similarities: new Float32Array(index.numProbed),
              };
              index.probe({ query, ...room });
              return Array.from(room.similarities);
            });
            // The same codes in another order of addition: gamma(headDim) of at most 1, a query and its codes.
            expectNear(similarities[0]!, similarities[1]!, 3 * gamma(16), 'similarity');
            // The other backend goes on as the one that saved it does, up to rounding in lists and tails.
            for (const index of [saved, loaded]) {
              await live(index, growth.data, { kind: 'insert', decode: 2 });
              await index.extend();
            }
            expect(loaded.segments).toEqual(saved.segments);
          }
        });
      }
    });

    it('spread centroids are the same ones', async () => {
      for (const seed of [1, 2, 3]) {
        const of = { seed, numTokens: 200, numCentroids: 90, numDecodes: 1, headDim: 32, groupSize: 2 };
        for (const data of [integerHeadData({ ...of, distinctQueries: 40 }), geometricHeadData(of)]) {
          const options = resolveSelectorOptions({ centroids: 'spread', numCentroids: 21, recentWindow: 16 });
          const { keys, values, queries, headDim, groupSize } = data;
          const spread = await makers(isa).build({ keys, values, queries, headDim, groupSize, options });
          const row = groupSize * headDim;
          const chosen = spreadQueries({ queries, headDim, groupSize, count: 21 });
          const picked = Float32Array.from(
            { length: 21 * row },
            (_, i) => queries[chosen[Math.floor(i / row)]! * row + (i % row)]!,
          );
          const last = { ...options, centroids: 'last' as const };
          const expected = await makers(isa).build({
            keys,
            values,
            queries: picked,
            headDim,
            groupSize,
            options: last,
          });
          for (let c = 0; c < 21; c++) expect(spread.list(c)).toEqual(expected.list(c));
          // Byte 100 says which choice it was, 12 to 16 is the checksum.
          const images = [await spread.save(), await expected.save()].map((image) =>
            image.fill(0, 12, 16).fill(0, 100, 101),
          );
          expect(Buffer.compare(images[0]!, images[1]!)).toBe(0);
        }
      }
    });

    // Refiners do not own their native index; it is freed when the suite is over.
    const opened: { close(): void }[] = [];
    afterAll(() => {
      for (const index of opened) index.close();
    });
    describeTokenRefiner(async ({ data, options }) => {
      const index = await buildCentroidIndex({ ...indexInput(data), options, backend: 'native', native, isa });
      opened.push(index);
      const { keys, values, headDim, groupSize } = data;
      const { numSinkTokens, recentWindow, maxSelected, topP } = options;
      const settings = { keys, values, headDim, groupSize, numSinkTokens, recentWindow, maxSelected, topP };
      return new TokenRefiner({ ...settings, backend: 'native', native: index.native });
    });

    describe('the whole decode step in one call', () => {
      const cases: IndexCase[] = [...conformanceCases(), ...growthCases()];
      for (const { name, data, options, history } of cases) {
        it(name, async () => {
          const { keys, queries, decodes, headDim, groupSize } = data;
          const grown = await buildCase(makers(isa), { data, options, ...(history ? { history } : {}) });
          const index = (grown as CentroidIndex).native as NativeCentroidIndex;
          const tail = index.tail() && tailOfRows(index.tail()!, headDim);
          const oracle = naiveHead(data, options, history && naiveGrowth(data, options, history), tail ?? undefined);
          const budget = errorBudget(headScale({ ...data, queries: Float32Array.of(...queries, ...decodes) }));
          groupsOf(decodes, groupSize, headDim).forEach((groups, i) => {
            const query = decodes.slice(i * groupSize * headDim, (i + 1) * groupSize * headDim);
            const naive = oracle.step(groups);
            const probes = Array.from(index.probe(query).centroids);
            // Similarities closer than an 8-bit code step may be probed in another order: then it is another step.
            if (probes.join() !== naive.probes.join()) return;
            const { candidates, selected } = index.select(query);
            expect(Array.from(candidates)).toEqual(naive.candidates);
            const scoreOf = (position: number) => naive.weights[naive.candidates.indexOf(position)]!;
            const relative = 2 * budget.weight;
            expectSameIds({ actual: selected, expected: naive.selected, scoreOf, relative, what: 'selected' });

            const { output, lse, mass, counters } = index.attend(query);
            expectNear(Array.from(lse), naive.lse, 4 * budget.lse, 'lse');
            expectNear(Array.from(output), naive.output.flat(), 4 * budget.output, 'output');
            expectNear(Array.from(mass), naive.mass, 4 * budget.weight, 'mass');
            const total = mass.reduce((sum, x) => sum + x, 0);
            expect(Math.abs(counters.estimatedMass - total)).toBeLessThan(groupSize * budget.weight);
            const numTokens = keys.length / headDim;
            const always = numTokens - (oracle.region.end - oracle.region.start);
            expect(counters).toMatchObject({
              heads: 1,
              keysTotal: numTokens,
              keysRead: always + candidates.length,
              valuesRead: always + selected.length,
              candidates: candidates.length,
              selected: selected.length,
            });
          });
          index.close();
        });
      }
    });
  });
}
