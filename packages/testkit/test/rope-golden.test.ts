/** Frequencies and rotated vectors against those of Hugging Face transformers: golden/rope-scalings, whose README says how they came to be. */
import { readFile } from 'node:fs/promises';
import { type RopePairing, type RopeScaling, yarnAttentionFactor } from '@ctkvr/rope-similarity';
import { describe, expect, it } from 'vitest';
import { expectNear, type RopeSimilaritySubject, rotationBudget } from '../src/index.js';
import { naivePair } from '../src/naive-rope.js';
import { reference, tryNative } from './rope-subjects.js';

interface Golden {
  readonly scalings: readonly {
    readonly name: string;
    readonly rotaryDim: number;
    readonly freqBase: number;
    readonly scaling: RopeScaling & { readonly mscale?: number; readonly mscaleAllDim?: number };
    readonly frequencies: readonly number[];
    readonly magnitude: number;
  }[];
  readonly rotations: readonly {
    readonly pairing: RopePairing;
    readonly headDim: number;
    readonly numHeads: number;
    readonly freqBase: number;
    readonly scaling: RopeScaling;
    readonly positions: readonly number[];
    readonly vectors: readonly number[];
    readonly rotated: readonly number[];
  }[];
}

const file = new URL('../golden/rope-scalings/golden.json', import.meta.url);
const golden = JSON.parse(await readFile(file, 'utf8')) as Golden;

/**
 * transformers works in f32: an exponent's rounding is multiplied by ln(base); a blend adds its own few roundings, and for llama3 those of
 * the rotations, 4 / 3 of theirs. NTK's grown base is at most 100 times as large. As a share of the unscaled frequency.
 */
function f32Share(freqBase: number): number {
  return (Math.log(100 * freqBase) + 8) * 2 ** -24;
}

function compare({ rope }: RopeSimilaritySubject): void {
  for (const { name, rotaryDim, freqBase, scaling: given, frequencies, magnitude } of golden.scalings) {
    it(`frequencies: ${name}`, () => {
      const { mscale, mscaleAllDim, ...plain } = given;
      const scaling =
        plain.type === 'yarn' && mscale !== undefined && mscaleAllDim !== undefined
          ? { ...plain, attentionFactor: yarnAttentionFactor({ factor: plain.factor, mscale, mscaleAllDim }) }
          : plain;
      const turning = rope({ headDim: 128, rotaryDim, pairing: 'half', freqBase, scaling });
      expectNear([turning.magnitude], [magnitude], 4 * 2 ** -53, 'magnitude');
      expect(turning.frequencies.length).toBe(frequencies.length);
      frequencies.forEach((expected, i) => {
        const unscaled = freqBase ** ((-2 * i) / rotaryDim);
        expectNear([turning.frequencies[i]!], [expected], unscaled * f32Share(freqBase), `frequency ${i}`);
      });
    });
  }

  for (const { pairing, headDim, numHeads, freqBase, scaling, ...at } of golden.rotations) {
    it(`rotated vectors: ${pairing}`, () => {
      const turning = rope({ headDim, pairing, freqBase, scaling });
      const vectors = Float32Array.from(at.vectors);
      const out = new Float32Array(vectors.length);
      turning.rotate({ vectors, positions: Uint32Array.from(at.positions), numHeads, out });
      for (let row = 0; row < at.positions.length * numHeads; row++) {
        const position = at.positions[Math.floor(row / numHeads)]!;
        turning.frequencies.forEach((frequency, i) => {
          const dimensions = naivePair(i, headDim, pairing).map((d) => row * headDim + d);
          const pairLength = Math.hypot(...dimensions.map((d) => vectors[d]!));
          const frequencyError = freqBase ** ((-2 * i) / headDim) * f32Share(freqBase);
          const of = { position, frequency, frequencyError, pairLength, magnitude: turning.magnitude };
          // On their side cosine, sine, two products and the sum are rounded to f32 as well.
          const budget = 5 * rotationBudget({ ...of, frequencyError: 0 }) + rotationBudget(of);
          for (const d of dimensions)
            expectNear([out[d]!], [at.rotated[d]!], budget, `position ${position}, value ${d}`);
        });
      }
    });
  }
}

describe('golden/rope-scalings, reference', () => compare(reference));
const loaded = tryNative();
if ('reason' in loaded) it.skip(`native (skipped: ${loaded.reason})`, () => {});
else describe('golden/rope-scalings, native', () => compare(loaded.native));
