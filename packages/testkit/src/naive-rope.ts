/**
 * Rotary embedding and the statistics of rotated queries once more, by other forms of their formulas where there are any, in f64 with
 * whole arrays: the oracle for implementations, with which it shares no code.
 */
import type { RopePairing, RopeScaling } from '@ctkvr/rope-similarity';
import { dot, rankedIds } from './naive.js';

/** Radians per position [rotaryDim / 2]. */
export function naiveFrequencies(rotaryDim: number, freqBase: number, scaling: RopeScaling): number[] {
  const numPairs = rotaryDim / 2;
  const plain = Array.from({ length: numPairs }, (_, i) => Math.exp((-i / numPairs) * Math.log(freqBase)));
  // The closed form of a base grown by factor^(d / (d - 2)).
  const ntk = (factor: number) => plain.map((f, i) => (i === 0 ? f : f * factor ** (-i / (numPairs - 1))));
  switch (scaling.type) {
    case 'none':
      return plain;
    case 'linear':
      return plain.map((f) => f / scaling.factor);
    case 'ntk':
      return ntk(scaling.factor);
    case 'dynamicNtk': {
      const { factor, originalContext, numTokens } = scaling;
      return numTokens <= originalContext ? plain : ntk(1 + factor * (numTokens / originalContext - 1));
    }
    case 'llama3': {
      const { factor, lowFreqFactor = 1, highFreqFactor = 4, originalContext } = scaling;
      return plain.map((f) => {
        const wavelength = (2 * Math.PI) / f;
        if (wavelength < originalContext / highFreqFactor) return f;
        if (wavelength > originalContext / lowFreqFactor) return f / factor;
        const smooth = (originalContext / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
        return f / factor + smooth * (f - f / factor);
      });
    }
    case 'yarn': {
      const { factor, originalContext, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
      // Solve originalContext * freqBase^(-i / numPairs) = 2 pi rotations for i.
      const corner = (rotations: number) =>
        (numPairs * (Math.log(originalContext) - Math.log(2 * Math.PI * rotations))) / Math.log(freqBase);
      const low = Math.max(0, truncate ? Math.floor(corner(betaFast)) : corner(betaFast));
      const high = Math.min(rotaryDim - 1, truncate ? Math.ceil(corner(betaSlow)) : corner(betaSlow));
      return plain.map((f, i) => {
        if (i <= low) return f;
        if (i >= high) return f / factor;
        const share = (i - low) / (high - low);
        return f + share * (f / factor - f);
      });
    }
  }
}

/** Indexes of the two values of pair i within a head. */
export function naivePair(i: number, rotaryDim: number, pairing: RopePairing): [number, number] {
  return pairing === 'half' ? [i, i + rotaryDim / 2] : [2 * i, 2 * i + 1];
}

/** One head vector at a position: pair i, as a complex number, times magnitude e^(sqrt(-1) position frequency i). */
export function naiveRotated(
  head: readonly number[],
  at: {
    readonly position: number;
    readonly frequencies: readonly number[];
    readonly magnitude: number;
    readonly pairing: RopePairing;
  },
): number[] {
  const out = [...head];
  at.frequencies.forEach((frequency, i) => {
    const [real, imaginary] = naivePair(i, 2 * at.frequencies.length, at.pairing);
    const [x, y] = [head[real]!, head[imaginary]!];
    const [length, angle] = [Math.hypot(x, y) * at.magnitude, Math.atan2(y, x) + at.position * frequency];
    out[real] = length * Math.cos(angle);
    out[imaginary] = length * Math.sin(angle);
  });
  return out;
}

/** cos of two head vectors; 0 when one is zeros. */
export function naiveCosine(a: readonly number[], b: readonly number[]): number {
  const lengths = Math.sqrt(dot(a, a)) * Math.sqrt(dot(b, b));
  return lengths > 0 ? dot(a, b) / lengths : 0;
}

export interface NaiveStatistics {
  readonly count: number;
  readonly mean: number;
  readonly min: number;
  readonly max: number;
  readonly standardDeviation: number;
}

/** NaN for no values. */
export function naiveStatistics(values: readonly number[]): NaiveStatistics {
  const count = values.length;
  if (count === 0) {
    return { count, mean: Number.NaN, min: Number.NaN, max: Number.NaN, standardDeviation: Number.NaN };
  }
  const mean = values.reduce((sum, x) => sum + x, 0) / count;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / count;
  return { count, mean, min: Math.min(...values), max: Math.max(...values), standardDeviation: Math.sqrt(variance) };
}

/** Of queries [token][head][dimension], `distance` apart: statistics of the group cosine and of each head's. */
export function naiveCosineByDistance(
  queries: readonly (readonly (readonly number[])[])[],
  groupSize: number,
  distance: number,
): { group: NaiveStatistics; heads: NaiveStatistics[] } {
  const pairs = queries.slice(distance).map((later, token) => ({ earlier: queries[token]!, later }));
  const cosines = pairs.map(({ earlier, later }) => earlier.map((head, h) => naiveCosine(head, later[h]!)));
  return {
    group: naiveStatistics(cosines.map((of) => of.reduce((sum, x) => sum + x, 0) / groupSize)),
    heads: Array.from({ length: groupSize }, (_, h) => naiveStatistics(cosines.map((of) => of[h]!))),
  };
}

/** Share of top keys that two queries [head][dimension] have in common: of the group, by the sum of its heads' q.k, and of each head. */
export function naiveOverlap(
  a: readonly (readonly number[])[],
  b: readonly (readonly number[])[],
  keys: readonly (readonly number[])[],
  topK: number,
): { group: number; heads: number[] } {
  const scores = (heads: readonly (readonly number[])[]) =>
    keys.map((key) => heads.reduce((sum, head) => sum + dot(head, key), 0));
  const share = (x: readonly (readonly number[])[], y: readonly (readonly number[])[]) => {
    const others = new Set(rankedIds(scores(y), topK));
    return rankedIds(scores(x), topK).filter((id) => others.has(id)).length / topK;
  };
  return { group: share(a, b), heads: a.map((head, h) => share([head], [b[h]!])) };
}
