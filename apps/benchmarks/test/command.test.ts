import { CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { benchCommand } from '../src/command.js';

async function run(...args: string[]): Promise<CommanderError> {
  const program = benchCommand();
  for (const command of [program, ...program.commands]) command.exitOverride().configureOutput({ writeErr: () => {} });
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error;
    throw error;
  }
  throw new Error('the program ran');
}

test.each([
  ['an unknown shape', ['decode', '--shape', 'gpt-5'], /no shape is called gpt-5: one of smollm2-512/],
  ['a shape and a model', ['decode', '--shape', 'smollm2-8k', '--model', 'x.gguf'], /exclude each other/],
  ['a context of nothing', ['decode', '--context', '0'], /whole number above 0/],
  ['a fraction', ['prefill', '--rounds', '1.5'], /whole number above 0/],
  ['no sequences', ['batch', '--sequences', '0'], /whole number above 0/],
  ['half a round', ['batch', '--beside-rounds', '0.5'], /whole number above 0/],
  [
    'a shape and what it says',
    ['batch', '--shape', 'smollm2-8k-x8', '--sequences', '2'],
    /--shape and --sequences exclude/,
  ],
  ['a report of nothing', ['report', '--out', 'x.html'], /missing required argument 'json'/],
  ['a report for nowhere', ['report', 'x.json'], /--out <file>/],
  ['more threads than there are', ['kernels', '--threads', '99999'], /this machine runs \d+ at most/],
  ['no threads', ['kernels', '--threads', '0'], /whole number above 0/],
  ['half a client', ['same-bits', '--clients', '2,0.5'], /whole number above 0/],
  ['a study without a folder', ['study'], /--out <folder>/],
  ['an unknown situation', ['study', '--out', 'x', '--texts', 'poem'], /poem is none of prose, manual, code, dialogue/],
  ['an unknown selector', ['study', '--out', 'x', '--contenders', 'best'], /"best" is none of full/],
  ['a list and a preset', ['study', '--out', 'x', '--contenders', 'ctkvr', '--preset', 'selectors'], /cannot be used/],
  ['an unknown text', ['text', 'poem'], /Allowed choices are prose, manual, code/],
  ['an unknown suite', ['speed'], /unknown command/],
])('%s is refused before anything runs', async (_name, args, message) => {
  expect((await run(...args)).message).toMatch(message);
});
