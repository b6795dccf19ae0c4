/** Flags that change a model's rotary embedding, named as llama.cpp names them. */
import { type RopeOptions, ropeOptionsOf, ropeScalingKinds } from '@ctkvr/core';
import { type Command, Option } from 'commander';
import { decimal, integer, positive } from './parse-numbers.js';

export interface RopeFlags {
  readonly ropeScaling?: RopeOptions['ropeScaling'];
  readonly ropeScale?: number;
  readonly ropeFreqBase?: number;
  readonly ropeFreqScale?: number;
  readonly yarnOrigCtx?: number;
  readonly yarnExtFactor?: number;
  readonly yarnAttnFactor?: number;
  readonly yarnBetaFast?: number;
  readonly yarnBetaSlow?: number;
}

/** Of every command that loads a model of the user's choice. */
export function addRopeFlags(command: Command): Command {
  return command
    .addOption(
      new Option('--rope-scaling <kind>', 'how positions are scaled (default: as the model file says)').choices(
        ropeScalingKinds,
      ),
    )
    .addOption(
      new Option('--rope-scale <factor>', 'by how much the context is stretched: 2 = twofold')
        .argParser(positive)
        .conflicts('ropeFreqScale'),
    )
    .option('--rope-freq-base <number>', 'base of the rotary frequencies', positive)
    .option(
      '--rope-freq-scale <number>',
      'what the frequencies are multiplied by: 0.5 = a context of twice the length',
      positive,
    )
    .option('--yarn-orig-ctx <tokens>', 'of yarn: the context before scaling', integer(1, 0x7fff_ffff))
    .option('--yarn-ext-factor <number>', 'of yarn: how much of their frequency fast pairs keep, 0 to 1', decimal(0, 1))
    .option(
      '--yarn-attn-factor <number>',
      'what queries and keys are multiplied by where yarn keeps no frequency',
      positive,
    )
    .option('--yarn-beta-fast <turns>', 'of yarn: turns from which on a pair is fast', positive)
    .option('--yarn-beta-slow <turns>', 'of yarn: turns below which a pair is slow', positive);
}

/** As loadModel takes them. */
export function ropeSettings({ ropeScale, yarnOrigCtx, ...flags }: RopeFlags): RopeOptions {
  return ropeOptionsOf({
    ...flags,
    ...(ropeScale === undefined ? {} : { ropeFreqScale: 1 / ropeScale }),
    yarnOriginalContext: yarnOrigCtx,
  });
}
