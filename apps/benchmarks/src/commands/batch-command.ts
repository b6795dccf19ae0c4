/** `batch`: several sequences. */
import type { Command } from 'commander';
import { positiveInteger, wholeNumber } from '../parse-options.js';
import { batchSuite } from '../suites/batch.js';
import { toRows } from '../suites/bench-row.js';
import { limitsOf } from '../suites/limits.js';
import { decodeSettings, type PeerFlags, suiteOptions, withPeerOptions } from './peer-options.js';
import { suiteCommand } from './suite-command.js';

interface BatchFlags extends PeerFlags {
  readonly sequences: number;
  readonly besideRounds: number;
}

export function batchCommand(): Command {
  const command = suiteCommand<BatchFlags>({
    name: 'batch',
    description: 'tokens a second of several sequences together, and the waits of one beside a prefill',
    defaultContext: 2000,
    measure: async (setup) => {
      const { context, rounds, sequences, besideRounds } = setup.flags;
      const findings = await batchSuite({ ...suiteOptions(setup), sequences, besideRounds });
      const rows = toRows(findings.rows, limitsOf(setup.head.machine));
      return {
        suite: 'batch',
        ...setup.head,
        ...decodeSettings(setup.flags),
        context,
        sequences,
        rounds,
        ...findings,
        rows,
      };
    },
  });
  return withPeerOptions(command)
    .option('--sequences <count>', 'sequences that decode at once', positiveInteger, 8)
    .option('--beside-rounds <count>', 'prefills beside a running sequence, each contender; 0: none', wholeNumber, 1);
}
