import { Command } from 'commander';
import { expect, it } from 'vitest';
import { addRopeFlags, ropeSettings } from './rope-flags.js';

function settings(...args: string[]) {
  const command = addRopeFlags(new Command('ask'))
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  return ropeSettings(command.parse(args, { from: 'user' }).opts());
}

it('flags of rope become options of loadModel', () => {
  expect(settings()).toEqual({});
  expect(settings('--rope-scaling', 'yarn', '--rope-scale', '4', '--yarn-orig-ctx', '32768')).toEqual({
    ropeScaling: 'yarn',
    ropeFreqScale: 0.25,
    yarnOriginalContext: 32_768,
  });
  const numbers = ['--rope-freq-base', '1e6', '--rope-freq-scale', '0.5', '--yarn-ext-factor', '0'];
  expect(settings(...numbers, '--yarn-attn-factor', '1.2', '--yarn-beta-fast', '16', '--yarn-beta-slow', '2')).toEqual({
    ropeFreqBase: 1e6,
    ropeFreqScale: 0.5,
    yarnExtFactor: 0,
    yarnAttnFactor: 1.2,
    yarnBetaFast: 16,
    yarnBetaSlow: 2,
  });
});

it.each([
  [['--rope-scaling', 'ntk'], /none, linear, yarn/],
  [['--rope-scale', '0'], /number above 0/],
  [['--rope-scale', '2', '--rope-freq-scale', '0.5'], /cannot be used with/],
  [['--yarn-ext-factor', '2'], /from 0 to 1/],
  [['--yarn-orig-ctx', '0.5'], /integer/],
])('%j is wrong usage', (args, message) => {
  expect(() => settings(...args)).toThrow(message);
});
