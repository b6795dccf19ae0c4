import { resolveSelectorOptions } from '@ctkvr/core';
import { createRandom, propertyParameters } from '@ctkvr/testkit';
import { describe, expect, it } from 'vitest';
import { planStages } from './prompt-stages.js';

const selector = resolveSelectorOptions();

describe('planStages', () => {
  it.each([
    // tokens, first build, extended
    [4000, null, false],
    [4096, 4096, false],
    [4100, 4096, false],
    [4104, 4096, true],
    [7000, 6144, true],
    [7250, 7168, true],
    [16_383, 14_336, true],
    [16_384, 16_384, false],
  ])('%i tokens: first build at %s, extended: %s', (numTokens, base, buildsEnd) => {
    expect(planStages(numTokens, selector)).toMatchObject({ from: 0, dropsIndex: false, base, buildsEnd });
  });

  it.each([
    // kept: tokens in common, tokens at its index's build, first query held
    { kept: [7000, 6144, 6616], asked: 7080, from: 7000, dropsIndex: false, buildsBase: false },
    { kept: [7000, 6144, 6616], asked: 7200, from: 7000, dropsIndex: true, buildsBase: true },
    { kept: [6000, 6144, 6616], asked: 6050, from: 4992, dropsIndex: false, buildsBase: true },
    { kept: [3000, null, 2616], asked: 3050, from: 3000, dropsIndex: false, buildsBase: false },
  ] as const)('goes on from $kept to $asked', ({ kept: [length, indexedAt, queriesFrom], asked, ...expected }) => {
    const stages = planStages(asked, selector, { length, indexedAt, queriesFrom });
    expect(stages).toMatchObject(expected);
  });

  it('what is kept never changes where the index is made, and always leaves the queries it is made of', () => {
    const { seed, numRuns } = propertyParameters(2000);
    for (let run = 0; run < numRuns; run++) {
      const random = createRandom(seed + run);
      const asked = random.integer(1, 20_000);
      const first = random.integer(1, 20_000);
      const before = planStages(first, selector);
      const length = random.integer(1, Math.min(first, asked));
      const queriesFrom = Math.max(0, first - random.integer(0, 384));
      const stages = planStages(asked, selector, { length, indexedAt: before.base, queriesFrom });
      const where = `CTKVR_TEST_SEED=${seed + run}: ${first} kept, ${length} common, ${asked} asked`;
      const anew = planStages(asked, selector);
      expect([stages.base, stages.buildsEnd], where).toEqual([anew.base, anew.buildsEnd]);
      expect(stages.from, where).toBeLessThanOrEqual(length);
      if (stages.base === null) continue;
      const end = stages.buildsBase ? stages.base : asked;
      const wanted = Math.max(
        stages.buildsBase ? 0 : stages.base,
        end - Math.min(384, Math.max(128, Math.floor((end - 272) / 40))),
      );
      const isHeld = stages.from <= wanted || queriesFrom <= wanted;
      expect(isHeld, where).toBe(true);
    }
  });
});
