/** `shared-cores`: the time of a token while other programs use the cores too. */
import type { Command } from 'commander';
import { sharedCoresSuite } from '../suites/shared-cores.js';
import { type SuiteFlags, suiteCommand } from './suite-command.js';

export function sharedCoresCommand(): Command {
  return suiteCommand<SuiteFlags>({
    name: 'shared-cores',
    description: 'milliseconds a token alone, beside a second process, and beside a busy loop on each core',
    defaultContext: 384,
    measure: async ({ flags, head, modelPath, onProgress }) => {
      const { context, rounds } = flags;
      const numLoops = head.machine.usableThreads;
      const rows = await sharedCoresSuite({ modelPath, context, rounds, numLoops, onProgress });
      return { suite: 'shared-cores', ...head, context, rounds, rows };
    },
  });
}
