/** `decode` and `prefill`: one figure for each contender. */
import { kvFormats } from '@ctkvr/core';
import { type Command, Option } from 'commander';
import { toRows } from '../suites/bench-row.js';
import { decodeSuite } from '../suites/decode.js';
import { limitsOf, prefillLimitsOf } from '../suites/limits.js';
import { prefillSuite } from '../suites/prefill.js';
import type { BenchResult } from '../suites/result.js';
import { decodeSettings, type PeerFlags, suiteOptions, withPeerOptions } from './peer-options.js';
import { suiteCommand } from './suite-command.js';

export const decodeCommand = () => benchCommand('decode', 'milliseconds a token after a long prompt');
export const prefillCommand = () => benchCommand('prefill', 'time to the first token of a long prompt');

function benchCommand(name: BenchResult['suite'], description: string): Command {
  const [run, limits] = name === 'decode' ? [decodeSuite, limitsOf] : [prefillSuite, prefillLimitsOf];
  const command = suiteCommand<PeerFlags>({
    name,
    description,
    defaultContext: 2000,
    measure: async (setup) => {
      const { rows, peerTrials } = await run(suiteOptions(setup));
      const { context, rounds, kvFormat } = setup.flags;
      return {
        suite: name,
        ...setup.head,
        ...decodeSettings(setup.flags),
        context,
        rounds,
        ...(kvFormat === undefined ? {} : { kvFormat }),
        rows: toRows(rows, limits(setup.head.machine)),
        peerTrials,
      };
    },
  });
  if (name === 'decode') {
    command.addOption(new Option('--kv-format <format>', 'of our keys and values (default: f16)').choices(kvFormats));
  }
  return withPeerOptions(command);
}
