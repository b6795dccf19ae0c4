/** Properties of refinement and merging over generated inputs. Replay a failure with CTKVR_TEST_SEED=<the seed it names>. */
import { buildCentroidIndex } from '@ctkvr/centroid-index';
import { resolveSelectorOptions } from '@ctkvr/core';
import {
  errorBudget,
  headScale,
  indexInput,
  integerHeadData,
  naiveHead,
  naiveScores,
  naiveSoftmax,
  propertyParameters,
  refinerInput,
  rowsOf,
} from '@ctkvr/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attendPositions,
  createAttentionOutput,
  createPartialAttention,
  mergePartials,
  selectCandidates,
  TokenRefiner,
} from '../src/index.js';

const sizes = fc.record({
  seed: fc.integer({ min: 0, max: 1e6 }),
  numTokens: fc.integer({ min: 1, max: 70 }),
  groupSize: fc.integer({ min: 1, max: 4 }),
  numCentroids: fc.integer({ min: 1, max: 6 }),
  numSinkTokens: fc.integer({ min: 0, max: 6 }),
  recentWindow: fc.integer({ min: 1, max: 12 }),
});
type Sizes = typeof sizes extends fc.Arbitrary<infer T> ? T : never;

const headDim = 8;

function dataOf(of: Sizes) {
  return integerHeadData({ ...of, headDim, numDecodes: 1 });
}

function around({ numSinkTokens, recentWindow }: Sizes) {
  return { numSinkTokens, recentWindow };
}

function groups(query: Float32Array): number[][] {
  return Array.from({ length: query.length / headDim }, (_, h) =>
    Array.from(query.subarray(h * headDim, (h + 1) * headDim)),
  );
}

describe('token refiner properties', () => {
  it('identity: all centroids, full lists, everything selected, no tail equals dense attention', () =>
    fc.assert(
      fc.asyncProperty(sizes, async (of) => {
        const data = dataOf(of);
        const { groupSize, numSinkTokens, recentWindow } = of;
        const options = resolveSelectorOptions({ preset: 'exact', numSinkTokens, recentWindow });
        const index = await buildCentroidIndex({ ...indexInput(data), options });
        const refiner = new TokenRefiner({ ...refinerInput(data), numSinkTokens, recentWindow, maxSelected: 0 });
        const query = data.decodes;
        const centroids = new Uint32Array(index.numProbed);
        index.probe({ query, centroids, similarities: new Float32Array(index.numProbed) });
        const union = new Uint32Array(index.maxCandidates);
        const candidates = union.subarray(0, index.candidates({ centroids, out: union }));
        const out = createAttentionOutput(groupSize, headDim);
        refiner.attend({ query, candidates, out });

        const dense = naiveHead(data, options).dense(groups(query));
        const budget = errorBudget(headScale({ ...data, queries: query }));
        dense.output.flat().forEach((x, i) => {
          expect(Math.abs(out.output[i]! - x)).toBeLessThanOrEqual(budget.output);
        });
        dense.lse.forEach((x, head) => {
          expect(Math.abs(out.lse[head]! - x)).toBeLessThanOrEqual(budget.lse);
        });
      }),
      propertyParameters(100),
    ));

  it('attention split into any parts, merged in any order, is the attention over all', () =>
    fc.assert(
      fc.property(sizes, fc.array(fc.nat({ max: 4 }), { minLength: 70, maxLength: 70 }), (of, partOf) => {
        const { keys, values, decodes: query, groupSize } = dataOf(of);
        const attend = (positions: number[]) => {
          const out = createPartialAttention(groupSize, headDim);
          attendPositions({ query, keys, values, headDim, groupSize, positions: Uint32Array.from(positions), out });
          return out;
        };
        const all = Array.from({ length: of.numTokens }, (_, j) => j);
        const partials = [4, 2, 0, 1, 3].map((part) => attend(all.filter((j) => partOf[j] === part)));
        const merged = createPartialAttention(groupSize, headDim);
        mergePartials({ partials, groupSize, headDim, out: merged });
        const whole = attend(all);
        const budget = errorBudget(headScale({ keys, values, queries: query, headDim }));
        whole.output.forEach((x, i) => {
          expect(Math.abs(merged.output[i]! - x)).toBeLessThanOrEqual(2 * budget.output);
        });
        whole.lse.forEach((x, head) => {
          expect(Math.abs(merged.lse[head]! - x)).toBeLessThanOrEqual(2 * budget.lse);
        });
      }),
      propertyParameters(100),
    ));

  it('the order of query heads changes no head of the output and no selection beyond true ties', () =>
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 20 }), (of, maxSelected) => {
        const data = dataOf({ ...of, groupSize: 2 });
        const refiner = new TokenRefiner({ ...refinerInput(data), ...around(of), maxSelected });
        const { start, end } = refiner.region;
        const candidates = Uint32Array.from({ length: end - start }, (_, j) => start + j);
        const swapped = Float32Array.of(...data.decodes.subarray(headDim), ...data.decodes.subarray(0, headDim));
        const select = (query: Float32Array) => {
          const out = new Uint32Array(candidates.length);
          return Array.from(out.subarray(0, refiner.select({ query, candidates, out })));
        };
        // With two heads the sum of weights is the same in either order, bit for bit.
        expect(select(swapped)).toEqual(select(data.decodes));
        const attend = (query: Float32Array) => {
          const out = createAttentionOutput(2, headDim);
          refiner.attend({ query, candidates, out });
          return out.output;
        };
        const [a, b] = [attend(data.decodes), attend(swapped)];
        expect(Float32Array.of(...b.subarray(headDim), ...b.subarray(0, headDim))).toEqual(a);
      }),
      propertyParameters(100),
    ));

  it('an audited step measures what the naive definition says, and knows the mass exactly where every key is a candidate', () =>
    fc.assert(
      fc.property(
        sizes,
        fc.integer({ min: 0, max: 20 }),
        fc.double({ min: 0.05, max: 1, noNaN: true }),
        (of, maxSelected, topP) => {
          const data = dataOf(of);
          const refiner = new TokenRefiner({ ...refinerInput(data), ...around(of), maxSelected, topP });
          const { start, end } = refiner.region;
          const candidates = Uint32Array.from({ length: end - start }, (_, j) => start + j);
          const query = data.decodes;
          const chosen = new Uint32Array(candidates.length);
          const selected = new Set(chosen.subarray(0, refiner.select({ query, candidates, out: chosen })));
          const measured = new Float32Array(of.groupSize);
          refiner.measureMass({ query, candidates, out: measured });
          const out = createAttentionOutput(of.groupSize, headDim);
          refiner.attend({ query, candidates, out });
          const budget = errorBudget(headScale({ ...data, queries: query }));
          groups(query).forEach((q, head) => {
            const scores = naiveScores(q, rowsOf(data.keys, headDim));
            const weights = naiveSoftmax(scores);
            const mass = weights.reduce((sum, x, j) => sum + (j < start || j >= end || selected.has(j) ? x : 0), 0);
            expect(Math.abs(measured[head]! - mass)).toBeLessThanOrEqual(budget.weight);
            expect(Math.abs(out.mass[head]! - mass)).toBeLessThanOrEqual(2 * budget.weight);
          });
        },
      ),
      propertyParameters(100),
    ));

  it('topP takes the smallest set of the heaviest that reaches it, within the cap', () =>
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 64 }), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 0, max: 70 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (quarters, maxSelected, topP) => {
          // Multiples of 1/4: sums are exact in any order.
          const weights = Float64Array.from(quarters, (x) => x / 4);
          const candidates = Uint32Array.from(quarters, (_, i) => 2 * i);
          const out = new Uint32Array(quarters.length);
          const count = selectCandidates({ weights, candidates, maxSelected, topP, out });
          const total = weights.reduce((sum, x) => sum + x, 0);
          const ranked = Array.from(quarters, (_, i) => i).sort((a, b) => weights[b]! - weights[a]! || a - b);
          const covered = (n: number) => ranked.slice(0, n).reduce((sum, i) => sum + weights[i]!, 0);
          const cap = maxSelected === 0 ? quarters.length : Math.min(maxSelected, quarters.length);
          const expected = ranked.slice(0, count).map((i) => 2 * i);
          expect(Array.from(out.subarray(0, count))).toEqual(expected.sort((a, b) => a - b));
          expect(count).toBeGreaterThanOrEqual(1);
          expect(count).toBeLessThanOrEqual(cap);
          if (topP === 1) expect(count).toBe(cap);
          else {
            expect(count === cap || covered(count) >= topP * total).toBe(true);
            expect(count === 1 || covered(count - 1) < topP * total).toBe(true);
          }
        },
      ),
      propertyParameters(200),
    ));

  it('selecting more never lowers the estimated mass', () =>
    fc.assert(
      fc.property(sizes, fc.float({ min: -5, max: 5, noNaN: true }), (of, tailLse) => {
        const data = dataOf(of);
        let previous = new Float32Array(of.groupSize);
        for (const maxSelected of [1, 2, 5, 20, 0]) {
          const refiner = new TokenRefiner({ ...refinerInput(data), ...around(of), maxSelected });
          const { start, end } = refiner.region;
          const candidates = Uint32Array.from({ length: end - start }, (_, j) => start + j);
          const value = new Float32Array(of.groupSize * headDim);
          const tail = { lse: new Float32Array(of.groupSize).fill(tailLse), value };
          const out = createAttentionOutput(of.groupSize, headDim);
          refiner.attend({ query: data.decodes, candidates, tail, out });
          out.mass.forEach((mass, head) => {
            expect(mass).toBeGreaterThanOrEqual(previous[head]! - 1e-6);
            expect(mass).toBeLessThanOrEqual(1);
          });
          previous = out.mass.slice();
        }
      }),
      propertyParameters(60),
    ));
});
