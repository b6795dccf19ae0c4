/**
 * Angular frequencies of a rotary embedding under each context-extension scaling in use. Everything a scaling does is to change these
 * numbers (and, for YaRN, to lengthen the rotated vectors), so rotation itself knows nothing of scalings.
 * Sources: RoFormer (arXiv 2104.09864) for the plain form; Chen et al. 2023 (arXiv 2306.15595) for linear; YaRN (arXiv 2309.00071)
 * for yarn and ntk; the Llama 3.1 release for llama3.
 */
import { CtkvrError, checkInteger } from '@ctkvr/core';

/** How frequencies are changed for contexts longer than the model was trained on. `factor` >= 1 everywhere. */
export type RopeScaling =
  | { readonly type: 'none' }
  /** Position interpolation: every frequency divided by `factor`. */
  | { readonly type: 'linear'; readonly factor: number }
  /** NTK-aware: the base grows so that the slowest frequency is divided by `factor` and the fastest stays. */
  | { readonly type: 'ntk'; readonly factor: number }
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
  /** YaRN: blend by the number of rotations over the original context, and a longer rotated vector. */
  | {
      readonly type: 'yarn';
      readonly factor: number;
      /** Context the model was trained for first, positions. */
      readonly originalContext: number;
      /** Frequencies that turn more often than this over originalContext are kept. Default 32. */
      readonly betaFast?: number;
      /** Frequencies that turn less often than this are scaled in full. Default 1. */
      readonly betaSlow?: number;
      /** Multiplies the rotated vector; default 0.1 ln(factor) + 1. */
      readonly attentionFactor?: number;
    };

export interface RopeFrequencies {
  /** Radians per position, f64 [rotaryDim / 2], fastest first. */
  readonly frequencies: Float64Array;
  /** What rotated vectors are multiplied by: 1 but for yarn. */
  readonly magnitude: number;
}

/**
 * Returns the frequencies of one head.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION when rotaryDim is odd or a factor is out of range.
 */
export function ropeFrequencies(options: {
  /** Rotated dimensions of a head, even. */
  readonly rotaryDim: number;
  /** Base of the frequencies; 10000 in the first models, up to millions since. */
  readonly freqBase: number;
  readonly scaling: RopeScaling;
}): RopeFrequencies {
  const { rotaryDim, freqBase, scaling } = options;
  const op = 'ropeFrequencies';
  checkInteger(rotaryDim / 2, { op, name: 'rotaryDim / 2', min: 1, max: 65536 });
  checkAtLeast(freqBase, 'freqBase', Number.MIN_VALUE);
  if (scaling.type === 'none') return { frequencies: plain(rotaryDim, freqBase), magnitude: 1 };
  checkAtLeast(scaling.factor, 'scaling.factor', 1);
  switch (scaling.type) {
    case 'linear':
      return { frequencies: plain(rotaryDim, freqBase).map((f) => f / scaling.factor), magnitude: 1 };
    case 'ntk': {
      // With d dimensions the slowest frequency is base^(-(d-2)/d): this exponent divides it by exactly `factor`.
      const base = rotaryDim > 2 ? freqBase * scaling.factor ** (rotaryDim / (rotaryDim - 2)) : freqBase;
      return { frequencies: plain(rotaryDim, base), magnitude: 1 };
    }
    case 'llama3':
      return { frequencies: llama3(plain(rotaryDim, freqBase), scaling), magnitude: 1 };
    case 'yarn':
      return yarn(plain(rotaryDim, freqBase), freqBase, scaling);
    default:
      throw new CtkvrError(
        'CTKVR_INVALID_OPTION',
        `scaling.type must be none, linear, ntk, llama3 or yarn, got ${JSON.stringify((scaling as { type: unknown }).type)}`,
        { fields: { option: 'scaling.type' } },
      );
  }
}

/**
 * Returns the `factor` that dynamic NTK scaling uses with `{ type: 'ntk' }` at a sequence length: 1 up to the original context.
 * Keys rotated under another factor must be rotated anew; that is the caller's work.
 */
export function dynamicNtkFactor(options: {
  readonly factor: number;
  readonly originalContext: number;
  readonly numTokens: number;
}): number {
  const { factor, originalContext, numTokens } = options;
  return Math.max(1, (factor * numTokens) / originalContext - (factor - 1));
}

function plain(rotaryDim: number, freqBase: number): Float64Array {
  return Float64Array.from({ length: rotaryDim / 2 }, (_, i) => freqBase ** ((-2 * i) / rotaryDim));
}

function llama3(frequencies: Float64Array, scaling: Extract<RopeScaling, { type: 'llama3' }>): Float64Array {
  const { factor, lowFreqFactor = 1, highFreqFactor = 4, originalContext } = scaling;
  checkAtLeast(originalContext, 'scaling.originalContext', 1);
  checkAtLeast(highFreqFactor - lowFreqFactor, 'scaling.highFreqFactor - scaling.lowFreqFactor', Number.MIN_VALUE);
  return frequencies.map((frequency) => {
    const rotations = (originalContext * frequency) / (2 * Math.PI);
    const kept = clamp01((rotations - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
    return kept * frequency + ((1 - kept) * frequency) / factor;
  });
}

function yarn(
  frequencies: Float64Array,
  freqBase: number,
  scaling: Extract<RopeScaling, { type: 'yarn' }>,
): RopeFrequencies {
  const { factor, originalContext, betaFast = 32, betaSlow = 1 } = scaling;
  checkAtLeast(originalContext, 'scaling.originalContext', 1);
  const rotaryDim = frequencies.length * 2;
  // The (fractional) frequency index that makes `rotations` turns over the original context.
  const indexOf = (rotations: number) =>
    (rotaryDim * Math.log(originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(freqBase));
  const low = Math.max(0, Math.floor(indexOf(betaFast)));
  const high = Math.min(rotaryDim - 1, Math.ceil(indexOf(betaSlow)));
  // 0.001 keeps the ramp defined when both ends fall on one index, as the reference implementations do.
  const width = Math.max(0.001, high - low);
  return {
    frequencies: frequencies.map((frequency, i) => {
      const scaled = clamp01((i - low) / width);
      return scaled * (frequency / factor) + (1 - scaled) * frequency;
    }),
    magnitude: scaling.attentionFactor ?? 0.1 * Math.log(factor) + 1,
  };
}

function clamp01(value: number): number {
  return Math.min(1, Math.max(0, value));
}

function checkAtLeast(value: number, name: string, min: number): void {
  if (Number.isFinite(value) && value >= min) return;
  throw new CtkvrError('CTKVR_INVALID_OPTION', `ropeFrequencies: ${name} must be a number >= ${min}, got ${value}`, {
    fields: { option: name, min, actual: String(value) },
  });
}
