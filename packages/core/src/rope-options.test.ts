import { expect, it } from 'vitest';
import { checkOptions } from './option-checks.js';
import { type RopeOptions, ropeOptionChecks, ropeOptionsOf } from './rope-options.js';

const check = (options: unknown) => () => checkOptions('load', options as RopeOptions, ropeOptionChecks);

it('options of the rotary embedding have bounds', () => {
  expect(
    check({
      ropeScaling: 'yarn',
      ropeFreqScale: 0.25,
      yarnOriginalContext: 32_768,
      yarnExtFactor: 0,
      yarnBetaFast: 32,
    }),
  ).not.toThrow();
  for (const [option, value, expected] of [
    ['ropeScaling', 'longrope', 'one of none, linear, yarn'],
    ['ropeFreqBase', 0, 'a number above 0'],
    ['ropeFreqScale', -1, 'a number above 0'],
    ['yarnOriginalContext', 0.5, 'an integer from 1'],
    ['yarnExtFactor', 1.5, 'a number from 0 to 1'],
    ['yarnAttnFactor', 0, 'a number above 0'],
    ['yarnBetaFast', Number.NaN, 'a number above 0'],
    ['yarnBetaSlow', '2', 'a number above 0'],
  ] as const) {
    expect(check({ [option]: value })).toThrow(new RegExp(`${option} must be ${expected}`));
  }
});

it('only what is given is handed on', () => {
  const options = { ropeScaling: 'linear', yarnBetaFast: undefined, numThreads: 2 } as RopeOptions;
  expect(ropeOptionsOf(options)).toEqual({ ropeScaling: 'linear' });
});
