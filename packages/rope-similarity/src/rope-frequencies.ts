/**
 * Angular frequencies of a rotary embedding under each scaling. Everything a scaling does is to change these numbers (and, for YaRN, to
 * lengthen the rotated vectors), so rotation itself knows nothing of scalings. With d rotated dimensions, base b, factor s, and
 * original context L:
 *
 * | scaling | frequency i of d / 2 | source |
 * |---|---|---|
 * | none | f = b^(-2i/d) | RoFormer, arXiv 2104.09864, section 3.2.2 |
 * | linear | f / s | position interpolation, arXiv 2306.15595, equation 4 |
 * | ntk | f with b s^(d/(d-2)) for b | YaRN, arXiv 2309.00071, section 3.1 |
 * | dynamicNtk | ntk with max(1, s n / L - (s - 1)) for s, n tokens so far | section 3.3 there; the factor as Hugging Face transformers has it |
 * | llama3 | r = L f / 2 pi rotations; kept = clamp((r - low) / (high - low)); kept f + (1 - kept) f / s | the Llama 3.1 release |
 * | yarn | kept falls linearly in i from 1 at index(betaFast) to 0 at index(betaSlow), index(r) = d ln(L / 2 pi r) / (2 ln b) | YaRN, section 3.2 |
 */
import { checkInteger, checkKnownKeys } from '@ctkvr/core';
import { checkNumber } from './check-number.js';
import { type ResolvedRopeScaling, type RopeScaling, resolveRopeScaling } from './rope-scaling.js';

export interface RopeFrequencies {
  /** Radians per position, f64 [rotaryDim / 2], fastest first. */
  readonly frequencies: Float64Array;
  /** What rotated vectors are multiplied by: 1 but for yarn. */
  readonly magnitude: number;
}

/**
 * Returns the frequencies of one head.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION when rotaryDim is odd or a number is out of range.
 */
export function ropeFrequencies(options: {
  /** Rotated dimensions of a head, even. */
  readonly rotaryDim: number;
  /** Base of the frequencies, > 1; 10000 in the first models, up to millions since. */
  readonly freqBase: number;
  readonly scaling: RopeScaling;
}): RopeFrequencies {
  const op = 'ropeFrequencies';
  checkKnownKeys(op, options, ['rotaryDim', 'freqBase', 'scaling']);
  const { rotaryDim, freqBase } = options;
  checkInteger(rotaryDim / 2, { op, name: 'rotaryDim / 2', min: 1, max: 65536 });
  checkNumber(freqBase, { op, name: 'freqBase', above: 1 });
  const scaling = resolveRopeScaling(options.scaling);
  const plain = plainFrequencies(rotaryDim, freqBase);
  switch (scaling.type) {
    case 'none':
      return { frequencies: plain, magnitude: 1 };
    case 'linear':
      return { frequencies: plain.map((f) => f / scaling.factor), magnitude: 1 };
    case 'ntk':
      return { frequencies: ntk(rotaryDim, freqBase, scaling.factor), magnitude: 1 };
    case 'dynamicNtk': {
      const { type: _, ...growth } = scaling;
      return { frequencies: ntk(rotaryDim, freqBase, dynamicNtkFactor(growth)), magnitude: 1 };
    }
    case 'llama3':
      return { frequencies: llama3(plain, scaling), magnitude: 1 };
    case 'yarn':
      return { frequencies: yarn(plain, freqBase, scaling), magnitude: scaling.attentionFactor };
  }
}

/**
 * Returns the NTK factor of dynamic scaling at a sequence length: max(1, factor * numTokens / originalContext - (factor - 1)), so 1 up
 * to the original context. Keys rotated under another factor must be rotated anew; that is the caller's work.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION.
 */
export function dynamicNtkFactor(options: {
  readonly factor: number;
  /** Positions. */
  readonly originalContext: number;
  /** Positions. */
  readonly numTokens: number;
}): number {
  const op = 'dynamicNtkFactor';
  checkKnownKeys(op, options, ['factor', 'originalContext', 'numTokens']);
  const { factor, originalContext, numTokens } = options;
  checkNumber(factor, { op, name: 'factor', atLeast: 1 });
  checkNumber(originalContext, { op, name: 'originalContext', atLeast: 1 });
  checkNumber(numTokens, { op, name: 'numTokens', atLeast: 0 });
  return Math.max(1, (factor * numTokens) / originalContext - (factor - 1));
}

function plainFrequencies(rotaryDim: number, freqBase: number): Float64Array {
  return Float64Array.from({ length: rotaryDim / 2 }, (_, i) => freqBase ** ((-2 * i) / rotaryDim));
}

/** With d dimensions the slowest frequency is base^(-(d-2)/d): this exponent divides it by exactly `factor`. One frequency is fastest and stays. */
function ntk(rotaryDim: number, freqBase: number, factor: number): Float64Array {
  return plainFrequencies(rotaryDim, rotaryDim > 2 ? freqBase * factor ** (rotaryDim / (rotaryDim - 2)) : freqBase);
}

function llama3(
  frequencies: Float64Array,
  scaling: Extract<ResolvedRopeScaling, { readonly type: 'llama3' }>,
): Float64Array {
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling;
  return frequencies.map((frequency) => {
    const rotations = (originalContext * frequency) / (2 * Math.PI);
    const kept = clamp01((rotations - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
    return kept * frequency + ((1 - kept) * frequency) / factor;
  });
}

function yarn(
  frequencies: Float64Array,
  freqBase: number,
  scaling: Extract<ResolvedRopeScaling, { readonly type: 'yarn' }>,
): Float64Array {
  const { factor, originalContext, betaFast, betaSlow, truncate } = scaling;
  const rotaryDim = frequencies.length * 2;
  // The (fractional) frequency index that makes `rotations` turns over the original context.
  const indexOf = (rotations: number) =>
    (rotaryDim * Math.log(originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(freqBase));
  const [first, last] = [indexOf(betaFast), indexOf(betaSlow)];
  const low = Math.max(0, truncate ? Math.floor(first) : first);
  const high = Math.min(rotaryDim - 1, truncate ? Math.ceil(last) : last);
  // 0.001 keeps the ramp defined when both ends fall on one index, as the reference implementations do.
  const width = Math.max(0.001, high - low);
  return frequencies.map((frequency, i) => {
    const scaled = clamp01((i - low) / width);
    return scaled * (frequency / factor) + (1 - scaled) * frequency;
  });
}

function clamp01(value: number): number {
  return Math.min(1, Math.max(0, value));
}
