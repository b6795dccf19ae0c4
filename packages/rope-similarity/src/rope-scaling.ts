/**
 * The common ways of changing rotary frequencies for contexts longer than a model was trained on, with their defaults and bounds.
 * What each does to the frequencies is in rope-frequencies.ts.
 */
import { CtkvrError, checkInteger, checkKnownKeys, checkOption, takes } from '@ctkvr/core';
import { checkNumber } from './check-number.js';

/** How frequencies are changed. `factor` >= 1 everywhere; contexts and lengths are in positions. */
export type RopeScaling =
  | { readonly type: 'none' }
  /** Position interpolation: every frequency divided by `factor`. */
  | { readonly type: 'linear'; readonly factor: number }
  /** NTK-aware: the base grows so that the slowest frequency is divided by `factor` and the fastest stays. */
  | { readonly type: 'ntk'; readonly factor: number }
  /** Dynamic NTK: `ntk` with a factor that grows with the sequence; none up to `originalContext`. */
  | {
      readonly type: 'dynamicNtk';
      readonly factor: number;
      /** Context the model was trained for, positions. */
      readonly originalContext: number;
      /** Length of the sequence now, positions. Keys rotated at another length must be rotated anew. */
      readonly numTokens: number;
    }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, a linear blend between. */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      /** Wavelengths above originalContext / lowFreqFactor are scaled in full. Default 1. */
      readonly lowFreqFactor?: number;
      /** Wavelengths below originalContext / highFreqFactor are kept. Default 4. */
      readonly highFreqFactor?: number;
      /** Context the model was trained for first, positions. */
      readonly originalContext: number;
    }
  /** YaRN: blend by the number of rotations over the original context, and longer rotated vectors. */
  | {
      readonly type: 'yarn';
      readonly factor: number;
      /** Context the model was trained for first, positions. */
      readonly originalContext: number;
      /** Frequencies that turn more often than this over originalContext are kept. Default 32. */
      readonly betaFast?: number;
      /** Frequencies that turn less often than this are scaled in full. Default 1. */
      readonly betaSlow?: number;
      /** Multiplies the rotated vector; default yarnAttentionFactor({ factor }) = 0.1 ln(factor) + 1. */
      readonly attentionFactor?: number;
      /** Whether the blend's two ends are rounded outwards to whole frequencies. Default true. */
      readonly truncate?: boolean;
    };

/** A scaling with nothing left to default. */
export type ResolvedRopeScaling = {
  [Type in RopeScaling['type']]: Required<Extract<RopeScaling, { readonly type: Type }>>;
}[RopeScaling['type']];

/**
 * Returns the scaling with its defaults filled in.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION: unknown type, a field that it does not have, or a number out of range.
 */
export function resolveRopeScaling(scaling: RopeScaling): ResolvedRopeScaling {
  const op = 'ropeFrequencies';
  checkOption(op, 'scaling', scaling, takes.object);
  checkType(scaling.type);
  checkKnownKeys(`${op}: scaling ${scaling.type}`, scaling, ['type', ...fields[scaling.type]]);
  if (scaling.type === 'none') return { type: 'none' };
  const { type, factor } = scaling;
  checkNumber(factor, { op, name: 'scaling.factor', atLeast: 1 });
  if (type === 'linear' || type === 'ntk') return { type, factor };
  const { originalContext } = scaling;
  checkNumber(originalContext, { op, name: 'scaling.originalContext', atLeast: 1 });
  switch (type) {
    case 'dynamicNtk': {
      const { numTokens } = scaling;
      checkInteger(numTokens, { op, name: 'scaling.numTokens', min: 0, max: 2 ** 32 });
      return { type, factor, originalContext, numTokens };
    }
    case 'llama3': {
      const { lowFreqFactor = 1, highFreqFactor = 4 } = scaling;
      checkNumber(lowFreqFactor, { op, name: 'scaling.lowFreqFactor', above: 0 });
      checkNumber(highFreqFactor, { op, name: 'scaling.highFreqFactor', above: lowFreqFactor });
      return { type, factor, lowFreqFactor, highFreqFactor, originalContext };
    }
    case 'yarn': {
      const {
        betaFast = 32,
        betaSlow = 1,
        attentionFactor = yarnAttentionFactor({ factor }),
        truncate = true,
      } = scaling;
      checkNumber(betaSlow, { op, name: 'scaling.betaSlow', above: 0 });
      checkNumber(betaFast, { op, name: 'scaling.betaFast', above: betaSlow });
      checkNumber(attentionFactor, { op, name: 'scaling.attentionFactor', above: 0 });
      checkOption(op, 'scaling.truncate', truncate, takes.boolean);
      return { type, factor, originalContext, betaFast, betaSlow, attentionFactor, truncate };
    }
  }
}

/** What each type has beside it. */
const fields: Readonly<Record<RopeScaling['type'], readonly string[]>> = {
  none: [],
  linear: ['factor'],
  ntk: ['factor'],
  dynamicNtk: ['factor', 'originalContext', 'numTokens'],
  llama3: ['factor', 'originalContext', 'lowFreqFactor', 'highFreqFactor'],
  yarn: ['factor', 'originalContext', 'betaFast', 'betaSlow', 'attentionFactor', 'truncate'],
};

function checkType(type: string): void {
  if (Object.hasOwn(fields, type)) return;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `ropeFrequencies: scaling.type must be one of ${Object.keys(fields).join(', ')}, got ${JSON.stringify(type)}`,
    { fields: { op: 'ropeFrequencies', option: 'scaling.type', actual: String(type) } },
  );
}

/**
 * Returns YaRN's length of rotated vectors: m(mscale) / m(mscaleAllDim) with m(x) = 0.1 x ln(factor) + 1 (YaRN, equation 22, is
 * m(1)). Models that give both constants (DeepSeek) put m(mscaleAllDim) into the attention scale instead.
 * @param options.mscale default 1. @param options.mscaleAllDim default 0, which is a divisor of 1.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION.
 */
export function yarnAttentionFactor(options: {
  readonly factor: number;
  readonly mscale?: number;
  readonly mscaleAllDim?: number;
}): number {
  const op = 'yarnAttentionFactor';
  checkKnownKeys(op, options, ['factor', 'mscale', 'mscaleAllDim']);
  const { factor, mscale = 1, mscaleAllDim = 0 } = options;
  checkNumber(factor, { op, name: 'factor', atLeast: 1 });
  checkNumber(mscale, { op, name: 'mscale', atLeast: 0 });
  checkNumber(mscaleAllDim, { op, name: 'mscaleAllDim', atLeast: 0 });
  const lengthening = (weight: number) => 0.1 * weight * Math.log(factor) + 1;
  return lengthening(mscale) / lengthening(mscaleAllDim);
}
