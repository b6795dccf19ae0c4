/** How tokens are drawn. Defaults and bounds live here and nowhere else on the TypeScript side. */
import { randomInt } from 'node:crypto';
import { CtkvrError, checkKnownKeys } from '@ctkvr/core';
import type { NativeSamplerOptions } from '@ctkvr/native';

export interface SamplingOptions {
  /** 0 = always the most probable token. Default 0. */
  readonly temperature?: number | undefined;
  /** Only the k most probable tokens; 0 = all. Default 40; without effect at temperature 0. */
  readonly topK?: number | undefined;
  /**
   * Only tokens whose surprise is nearest to the expected one, until their probability reaches this; 1 = all (locally typical sampling,
   * arXiv 2202.00666). Default 1.
   */
  readonly typicalP?: number | undefined;
  /** Only the smallest set of tokens whose probability reaches this; 1 = all. Default 0.95. */
  readonly topP?: number | undefined;
  /** Only tokens at least this probable, relative to the most probable; 0 = all. Default 0.05. */
  readonly minP?: number | undefined;
  /** Divides the logits of tokens among the last `penaltyWindow` of the session, the prompt's included; 1 = off. Default 1. */
  readonly repeatPenalty?: number | undefined;
  /** Subtracted once for each time that a token occurs in this answer; the prompt does not count. Default 0. */
  readonly frequencyPenalty?: number | undefined;
  /** Subtracted when a token occurs in this answer; the prompt does not count. Default 0. */
  readonly presencePenalty?: number | undefined;
  /** How many of the session's last tokens, prompt and earlier turns included, `repeatPenalty` looks at. Default 64. */
  readonly penaltyWindow?: number | undefined;
  /** u32. The same seed, state and options draw the same tokens. Default: random, and reported in the finish. */
  readonly seed?: number | undefined;
}

const MAX_U32 = 0xffff_ffff;

const defaults: Omit<NativeSamplerOptions, 'seed' | 'answerStart'> = {
  temperature: 0,
  topK: 40,
  typicalP: 1,
  topP: 0.95,
  minP: 0.05,
  repeatPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  penaltyWindow: 64,
};

/** Smallest and largest value of each option, and whether it must be an integer. */
const bounds: Record<keyof SamplingOptions, { min: number; max: number; integer: boolean }> = {
  temperature: { min: 0, max: 100, integer: false },
  topK: { min: 0, max: 0x7fff_ffff, integer: true },
  typicalP: { min: 0, max: 1, integer: false },
  topP: { min: 0, max: 1, integer: false },
  minP: { min: 0, max: 1, integer: false },
  repeatPenalty: { min: 0.01, max: 100, integer: false },
  frequencyPenalty: { min: -100, max: 100, integer: false },
  presencePenalty: { min: -100, max: 100, integer: false },
  penaltyWindow: { min: 0, max: 1 << 20, integer: true },
  seed: { min: 0, max: MAX_U32, integer: true },
};

/** What can be set. */
export const samplingNames: readonly string[] = Object.keys(bounds);

/**
 * Returns complete, checked options; draws a seed when none is given.
 * @param answerStart tokens in the session before the answer. @throws {CtkvrError} CTKVR_INVALID_OPTION naming the option.
 */
export function resolveSampling(options: SamplingOptions = {}, answerStart = 0): NativeSamplerOptions {
  const resolved: Record<string, number> = { ...defaults, seed: randomInt(MAX_U32), answerStart };
  checkKnownKeys('sampling', options, samplingNames);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    resolved[name] = checked(name, value);
  }
  return resolved as unknown as NativeSamplerOptions;
}

function checked(name: string, value: unknown): number {
  const { min, max, integer } = bounds[name as keyof SamplingOptions];
  if (typeof value !== 'number' || !(value >= min && value <= max) || (integer && !Number.isInteger(value))) {
    throw invalid(name, `${integer ? 'an integer' : 'a number'} from ${min} to ${max}`, value);
  }
  return value;
}

function invalid(name: string, expected: string, actual: unknown): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `sampling.${name} must be ${expected}, got ${String(actual)}`, {
    fields: { option: name, expected, actual: String(actual) },
  });
}
