/** `index`: what the index costs, and where decode steps spend their time. */
import type { Command } from 'commander';
import { positiveInteger } from '../parse-options.js';
import { indexSuite } from '../suites/index-suite.js';
import { decodeSettings, type PeerFlags, suiteOptions, withDecodeOptions } from './peer-options.js';
import { suiteCommand } from './suite-command.js';

interface IndexFlags extends PeerFlags {
  readonly growthTokens: number;
}

export function indexCommand(): Command {
  const command = suiteCommand<IndexFlags>({
    name: 'index',
    description: 'what the index of a prompt costs, and where decode steps spend their time',
    defaultContext: 7000,
    measure: async (setup) => {
      const { head, flags, model } = setup;
      const findings = await indexSuite({
        ...suiteOptions(setup),
        growthTokens: flags.growthTokens,
        headDim: model.headDim,
        bandwidthGBps: head.machine.memory.bandwidthGBps,
      });
      return {
        suite: 'index',
        ...head,
        ...decodeSettings(flags),
        context: flags.context,
        rounds: flags.rounds,
        ...findings,
      };
    },
  });
  return withDecodeOptions(command).option(
    '--growth-tokens <count>',
    'tokens generated while the index grows',
    positiveInteger,
    512,
  );
}
