/** How a load may change the rotary embedding of a model file, under the names that llama.cpp has for it. */
import type { OptionChecks } from './option-checks.js';
import * as takes from './option-kinds.js';

/** Kinds of scaling that need nothing of the file. */
export const ropeScalingKinds = ['none', 'linear', 'yarn'] as const;
export type RopeScalingKind = (typeof ropeScalingKinds)[number];

/** Each replaces what the model file says. */
export interface RopeOptions {
  /** How positions are scaled; 'none' = not at all. */
  readonly ropeScaling?: RopeScalingKind | undefined;
  /** The base of the frequencies. */
  readonly ropeFreqBase?: number | undefined;
  /** What frequencies are multiplied by: 0.5 stretches the context twofold. */
  readonly ropeFreqScale?: number | undefined;
  /** Of yarn: tokens of the context before scaling. */
  readonly yarnOriginalContext?: number | undefined;
  /** Of yarn, 0 to 1: how much of their frequency fast pairs keep. */
  readonly yarnExtFactor?: number | undefined;
  /** What rotated queries and keys are multiplied by. Counts only where `yarnExtFactor` is 0, or nothing is scaled by yarn: else it follows from the scale. */
  readonly yarnAttnFactor?: number | undefined;
  /** Of yarn: turns over the original context from which on a pair is fast, and keeps its frequency. */
  readonly yarnBetaFast?: number | undefined;
  /** Of yarn: turns below which a pair is slow, and is scaled. */
  readonly yarnBetaSlow?: number | undefined;
}

export const ropeOptionChecks: OptionChecks<RopeOptions> = {
  ropeScaling: takes.optional(takes.oneOf(ropeScalingKinds)),
  ropeFreqBase: takes.optional(takes.numberAbove(0)),
  ropeFreqScale: takes.optional(takes.numberAbove(0)),
  yarnOriginalContext: takes.optional(takes.integer(1, 0x7fff_ffff)),
  yarnExtFactor: takes.optional(takes.number(0, 1)),
  yarnAttnFactor: takes.optional(takes.numberAbove(0)),
  yarnBetaFast: takes.optional(takes.numberAbove(0)),
  yarnBetaSlow: takes.optional(takes.numberAbove(0)),
};

/** Names of all of them. */
export const ropeOptionNames = Object.keys(ropeOptionChecks) as readonly (keyof RopeOptions)[];

/** Returns those of some options that are given. */
export function ropeOptionsOf(options: RopeOptions): RopeOptions {
  const given = ropeOptionNames.filter((name) => options[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, options[name]]));
}
