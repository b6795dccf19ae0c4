/**
 * The native index, every instruction set this machine has, through the same suites as the reference. Skipped, with the reason in the
 * name of the skipped test, when there is no binary for this platform.
 *
 * The algorithm packages are imported by path: declared as dependencies they would close a cycle, since they test with this package.
 */
import { CtkvrError } from '@ctkvr/core';
import { loadBinding, type NativeBinding, type NativeCentroidIndex } from '@ctkvr/native';
import { afterAll, describe, expect, it } from 'vitest';
import {
  buildCentroidIndex,
  loadCentroidIndex,
  type NativeIndex,
  type NativeIndexBinding,
} from '../../centroid-index/src/index.js';
import { type NativeRefiner, TokenRefiner } from '../../token-refiner/src/index.js';
import {
  conformanceCases,
  describeCentroidIndex,
  describeTokenRefiner,
  errorBudget,
  expectNear,
  expectSameIds,
  headScale,
  int8Budget,
  naiveHead,
} from '../src/index.js';
import { groupsOf } from '../src/naive.js';

/** Fails to compile when the binding no longer is what the packages take by structure. */
export const bindingFits = (binding: NativeBinding): NativeIndexBinding => binding;
export const indexFits = (index: NativeCentroidIndex): NativeIndex & NativeRefiner => index;

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
  describe.each(isas)('native, %s', (isa) => {
    describeCentroidIndex({
      build: (input) => buildCentroidIndex({ ...input, backend: 'native', native, isa }),
      load: (input) => loadCentroidIndex({ ...input, backend: 'native', native, isa }),
    });

    // Refiners do not own their native index; it is freed when the suite is over.
    const opened: { close(): void }[] = [];
    afterAll(() => {
      for (const index of opened) index.close();
    });
    describeTokenRefiner(async ({ data, options }) => {
      const index = await buildCentroidIndex({ ...data, options, backend: 'native', native, isa });
      opened.push(index);
      const { keys, values, headDim, groupSize } = data;
      const { numSinkTokens, recentWindow, maxSelected, topP } = options;
      const settings = { keys, values, headDim, groupSize, numSinkTokens, recentWindow, maxSelected, topP };
      return new TokenRefiner({ ...settings, backend: 'native', native: index.native });
    });

    describe('the whole decode step in one call', () => {
      for (const { name, data, options } of conformanceCases()) {
        it(name, async () => {
          const { keys, values, queries, decodes, headDim, groupSize } = data;
          const index = await native.CentroidIndex.build({ keys, values, queries, headDim, groupSize, options, isa });
          const oracle = naiveHead(data, options);
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
            // One 8-bit step in the mean key moves a tail's lse by at most step * |moved query|_1 * scale.
            const tail = oracle.centroids[naive.probes[0]!]!.tail;
            const keyStep = int8Budget(Math.max(...tail.flatMap(({ key }) => key.map(Math.abs))));
            const moved = (2 * budgetQueryLength(data) * Math.sqrt(headDim)) / Math.sqrt(headDim);
            const unread = 1 - Math.min(...naive.mass);
            const lseSlack = 4 * budget.lse + unread * keyStep * moved;
            const valueStep = int8Budget(Math.max(...naive.tailValue.flat().map(Math.abs)));
            const valueSpread = 2 * headScale({ ...data, queries: query }).valueMagnitude;
            expectNear(Array.from(lse), naive.lse, lseSlack, 'lse');
            const outputSlack = 4 * budget.output + unread * (valueStep + keyStep * moved * valueSpread);
            expectNear(Array.from(output), naive.output.flat(), outputSlack, 'output');

            expectNear(Array.from(mass), naive.mass, 4 * budget.weight + lseSlack, 'mass');
            const total = mass.reduce((sum, x) => sum + x, 0);
            expect(Math.abs(counters.estimatedMass - total)).toBeLessThan(groupSize * budget.weight);
            const numTokens = keys.length / headDim;
            const start = Math.min(options.numSinkTokens, numTokens);
            const always = numTokens - Math.max(0, numTokens - options.recentWindow - start);
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

/** Largest length of a query head of the data. */
function budgetQueryLength(data: {
  keys: Float32Array;
  values: Float32Array;
  queries: Float32Array;
  decodes: Float32Array;
  headDim: number;
}): number {
  return headScale({ ...data, queries: Float32Array.of(...data.queries, ...data.decodes) }).queryLength;
}
