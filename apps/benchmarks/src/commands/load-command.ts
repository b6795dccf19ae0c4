/** `load`: from nothing to the first token. */
import type { Command } from 'commander';
import { loadSuite } from '../suites/load.js';
import { type SuiteFlags, suiteCommand } from './suite-command.js';

interface LoadFlags extends SuiteFlags {
  readonly peer: boolean;
}

export function loadCommand(): Command {
  return suiteCommand<LoadFlags>({
    name: 'load',
    description: 'from the start of a process to the first token of a short prompt',
    defaultContext: 16,
    measure: async ({ flags, head, modelPath, onProgress }) => {
      const { context, rounds, peer } = flags;
      const maxThreads = head.machine.usableThreads;
      const findings = await loadSuite({ modelPath, context, rounds, peer, maxThreads, onProgress });
      return { suite: 'load', ...head, promptTokens: context, rounds, ...findings };
    },
  }).option('--no-peer', 'leave node-llama-cpp out');
}
