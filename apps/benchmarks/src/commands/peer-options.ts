/** Options of the suites that decode beside the peer. */
import type { KvFormat } from '@ctkvr/core';
import type { Command } from 'commander';
import { positiveInteger } from '../parse-options.js';
import type { DecodeSettings } from '../suites/result-head.js';
import type { SuiteOptions } from '../suites/suite-options.js';
import type { SuiteFlags, SuiteSetup } from './suite-command.js';

export interface PeerFlags extends SuiteFlags {
  readonly tokens: number;
  readonly denseBelow?: number;
  readonly peer: boolean;
  /** Of `decode`. */
  readonly kvFormat?: KvFormat;
}

export function withPeerOptions(command: Command): Command {
  return withDecodeOptions(command).option('--no-peer', 'leave node-llama-cpp out');
}

/** Those of them that are not about the peer. */
export function withDecodeOptions(command: Command): Command {
  return command
    .option('--tokens <count>', 'decoded tokens a turn', positiveInteger, 24)
    .option(
      '--dense-below <tokens>',
      'contexts shorter than this decode densely (default: the preset)',
      positiveInteger,
    );
}

export function suiteOptions({ flags, head, modelPath, model, onProgress }: SuiteSetup<PeerFlags>): SuiteOptions {
  return {
    modelPath,
    model,
    context: flags.context,
    rounds: flags.rounds,
    tokensPerRound: flags.tokens,
    peer: flags.peer,
    maxThreads: head.machine.usableThreads,
    denseBelow: flags.denseBelow,
    kvFormat: flags.kvFormat ?? 'f16',
    onProgress,
  };
}

/** What of the options stands in the result. */
export function decodeSettings({ tokens, denseBelow }: PeerFlags): DecodeSettings {
  return { tokensPerRound: tokens, denseBelow: denseBelow ?? null };
}
