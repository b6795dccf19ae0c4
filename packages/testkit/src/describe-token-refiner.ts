/** The suite that every token refiner passes, against the naive definitions. */
import type { SelectorOptions } from '@ctkvr/core';
import { describe, expect } from 'vitest';
import { expectSameIds } from './compare-ids.js';
import { type ConformanceCase, conformanceCases } from './conformance-data.js';
import { type ConformanceOptions, conformanceTests } from './conformance-skip.js';
import { errorBudget, headScale } from './error-budget.js';
import { expectTypedArrays } from './expect-typed-arrays.js';
import { expectCode, expectNear } from './expectations.js';
import type { HeadData } from './head-data.js';
import { groupsOf } from './naive.js';
import { naiveHead } from './naive-head.js';

/** What the suite needs of a refiner; `TokenRefiner` of @ctkvr/token-refiner has it. */
export interface TokenRefinerSubject {
  scores(input: { query: Float32Array; candidates: Uint32Array; out: Float32Array }): void;
  select(input: { query: Float32Array; candidates: Uint32Array; out: Uint32Array }): number;
  attend(input: {
    query: Float32Array;
    candidates: Uint32Array;
    tail?: { lse: Float32Array; value: Float32Array };
    out: { output: Float32Array; lse: Float32Array; mass: Float32Array };
  }): number;
}

/** Declares the suite. @param make returns a refiner over data.keys and data.values with these options. */
export function describeTokenRefiner(
  make: (input: { data: HeadData; options: SelectorOptions }) => Promise<TokenRefinerSubject>,
  options: ConformanceOptions = {},
): void {
  const { test, done } = conformanceTests(options);

  describe('token refiner conformance', () => {
    for (const { name, data, options } of conformanceCases()) {
      const { headDim, groupSize } = data;
      const row = groupSize * headDim;
      const steps = stepsOf({ name, data, options });
      const budget = errorBudget(headScale({ ...data, queries: data.decodes }));

      test(`${name}: exact scores`, async () => {
        const refiner = await make({ data, options });
        for (const { query, candidates, naive } of steps) {
          const out = new Float32Array(groupSize * candidates.length);
          refiner.scores({ query, candidates, out });
          expectNear(Array.from(out), naive.scores.flat(), budget.score, 'score');
        }
      });

      test(`${name}: the heaviest candidates are selected, ascending`, async () => {
        const refiner = await make({ data, options });
        for (const { query, candidates, naive } of steps) {
          const out = new Uint32Array(candidates.length);
          const selected = Array.from(out.subarray(0, refiner.select({ query, candidates, out })));
          expect(selected).toEqual([...selected].sort((a, b) => a - b));
          const scoreOf = (position: number) => naive.weights[naive.candidates.indexOf(position)]!;
          const relative = 2 * budget.weight;
          expectSameIds({ actual: selected, expected: naive.selected, scoreOf, relative, what: 'selected' });
        }
      });

      test(`${name}: attention over what is read, and the tail for the rest`, async () => {
        const refiner = await make({ data, options });
        for (const { query, candidates, tail, naive } of steps) {
          const out = attentionOutput(groupSize, headDim);
          const count = refiner.attend({ query, candidates, ...(options.tail ? { tail } : {}), out });
          expect(count).toBe(naive.selected.length);
          // Twice: selections may differ by candidates of equal weight to rounding.
          expectNear(Array.from(out.output), naive.output.flat(), 4 * budget.output, 'output');
          expectNear(Array.from(out.lse), naive.lse, 4 * budget.lse, 'lse');
          expectNear(Array.from(out.mass), naive.mass, 4 * budget.weight, 'mass');
        }
      });

      test(`${name}: with every position as candidate and all selected it is dense attention`, async () => {
        const refiner = await make({ data, options: { ...options, maxSelected: 0, topP: 1 } });
        const numTokens = data.keys.length / headDim;
        const start = Math.min(options.numSinkTokens, numTokens);
        const length = Math.max(0, numTokens - options.recentWindow - start);
        const candidates = Uint32Array.from({ length }, (_, j) => start + j);
        groupsOf(data.decodes, groupSize, headDim).forEach((query, i) => {
          const dense = naiveHead(data, options).dense(query);
          const out = attentionOutput(groupSize, headDim);
          refiner.attend({ query: data.decodes.subarray(i * row, (i + 1) * row), candidates, out });
          expectNear(Array.from(out.output), dense.output.flat(), budget.output, 'output');
          expectNear(Array.from(out.lse), dense.lse, budget.lse, 'lse');
          expect(Array.from(out.mass)).toEqual(Array(groupSize).fill(1));
        });
      });
    }

    const typical = conformanceCases()[0]!;
    test('bad queries and candidates are refused with their codes', async () => {
      const { data, options } = typical;
      const refiner = await make({ data, options });
      const query = data.decodes.slice(0, data.groupSize * data.headDim);
      const out = new Uint32Array(64);
      const select = (changed: object) => async () =>
        refiner.select({ query, candidates: Uint32Array.of(30, 40), out, ...changed });
      await expectCode('CTKVR_SHAPE_MISMATCH', select({ query: query.subarray(1) }));
      await expectCode('CTKVR_NON_FINITE', select({ query: query.slice().fill(Number.NaN, 0, 1) }));
      for (const candidates of [
        [40, 30],
        [30, 30],
        [0, 30],
        [30, 299],
        [30, 1e6],
      ]) {
        await expectCode('CTKVR_INVALID_OPTION', select({ candidates: Uint32Array.from(candidates) }));
      }
    });

    test('buffers that are missing, plain lists or of another class, and unknown names, are refused by name', async () => {
      const { data, options } = typical;
      const { groupSize, headDim } = data;
      for (const what of ['keys', 'values'] as const) {
        for (const wrong of [undefined, Array.from(data[what]), Float64Array.from(data[what])]) {
          await expectCode('CTKVR_INVALID_OPTION', () => make({ data: { ...data, [what]: wrong }, options }));
        }
      }
      const refiner = await make({ data, options });
      const query = data.decodes.slice(0, groupSize * headDim);
      const candidates = Uint32Array.of(30, 40);
      const scores = new Float32Array(2 * groupSize);
      await expectTypedArrays({ query, candidates, out: scores }, async (input) => refiner.scores(input));
      await expectTypedArrays({ query, candidates, out: new Uint32Array(2) }, async (input) => refiner.select(input));
      const out = attentionOutput(groupSize, headDim);
      const { lse, output: value } = attentionOutput(groupSize, headDim);
      await expectTypedArrays({ query, candidates, tail: { lse, value }, out }, async (input) => refiner.attend(input));
      for (const field of ['output', 'lse', 'mass'] as const) {
        const wrong = { ...out, [field]: Array.from(out[field]) };
        await expectCode('CTKVR_INVALID_OPTION', async () =>
          refiner.attend({ query, candidates, out: wrong as never }),
        );
      }
    });
  });
  done();
}

function attentionOutput(groupSize: number, headDim: number) {
  return {
    output: new Float32Array(groupSize * headDim),
    lse: new Float32Array(groupSize),
    mass: new Float32Array(groupSize),
  };
}

/** Decode steps with the oracle's candidates and rest, so that a refiner is judged alone. */
function stepsOf({ data, options }: ConformanceCase) {
  const { headDim, groupSize } = data;
  const head = naiveHead(data, options);
  const row = groupSize * headDim;
  return groupsOf(data.decodes, groupSize, headDim).map((groups, i) => {
    const naive = head.step(groups);
    return {
      naive,
      query: data.decodes.subarray(i * row, (i + 1) * row),
      candidates: Uint32Array.from(naive.candidates),
      tail: { lse: Float32Array.from(naive.tailLse), value: Float32Array.from(naive.tailValue.flat()) },
    };
  });
}
