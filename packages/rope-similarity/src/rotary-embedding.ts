/**
 * Rotary position embedding of whole buffers, both pairings, forwards and back. Sines and cosines are taken in f64 from the exact
 * angle, because at position 100,000 an f32 angle is already off by 0.004 radian.
 */
import { CtkvrError, checkCapacity, checkInteger, checkLength } from '@ctkvr/core';
import { type RopeScaling, ropeFrequencies } from './rope-frequencies.js';

/**
 * Which dimensions turn together: `half` pairs i with i + rotaryDim / 2 (Qwen, GPT-NeoX; Hugging Face's Llama weights);
 * `adjacent` pairs 2i with 2i + 1 (the RoFormer paper; Llama weights in GGUF files).
 */
export type RopePairing = 'half' | 'adjacent';

export interface RopeOptions {
  readonly headDim: number;
  readonly pairing: RopePairing;
  /** Dimensions that turn, from the first on; the rest passes unchanged. Default headDim. */
  readonly rotaryDim?: number;
  /** Default 10000. */
  readonly freqBase?: number;
  /** Default none. */
  readonly scaling?: RopeScaling;
}

/** A buffer of heads at positions. */
export interface RotateInput {
  /** f32 [numTokens, numHeads, headDim]. */
  readonly vectors: Float32Array;
  /** Position of each token, [numTokens]; any order. Default 0, 1, 2, ... */
  readonly positions?: Uint32Array;
  readonly numHeads: number;
  /** f32, at least as long as vectors; may be `vectors` itself. */
  readonly out: Float32Array;
}

/** Rotary embedding with fixed options; immutable, so one may be shared. */
export class RotaryEmbedding {
  readonly headDim: number;
  readonly rotaryDim: number;
  readonly pairing: RopePairing;
  /** Radians per position, f64 [rotaryDim / 2]. */
  readonly frequencies: Float64Array;
  /** What rotated dimensions are multiplied by (YaRN); 1 otherwise. */
  readonly magnitude: number;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
  constructor(options: RopeOptions) {
    const { headDim, pairing, rotaryDim = headDim, freqBase = 10_000, scaling = { type: 'none' } } = options;
    const op = 'RotaryEmbedding';
    checkInteger(headDim, { op, name: 'headDim', min: 2, max: 65536 });
    checkInteger(rotaryDim, { op, name: 'rotaryDim', min: 2, max: headDim });
    if (pairing !== 'half' && pairing !== 'adjacent') {
      throw new CtkvrError(
        'CTKVR_INVALID_OPTION',
        `pairing must be 'half' or 'adjacent', got ${JSON.stringify(pairing)}`,
        {
          fields: { option: 'pairing' },
        },
      );
    }
    const { frequencies, magnitude } = ropeFrequencies({ rotaryDim, freqBase, scaling });
    this.headDim = headDim;
    this.rotaryDim = rotaryDim;
    this.pairing = pairing;
    this.frequencies = frequencies;
    this.magnitude = magnitude;
  }

  /** Writes the rotated vectors to `out`. O(vectors). @throws {CtkvrError} CTKVR_SHAPE_MISMATCH. */
  rotate(input: RotateInput): void {
    this.#turn(input, 1, this.magnitude);
  }

  /** Undoes `rotate`: out = vectors before rotation, up to f32 rounding. @throws {CtkvrError} CTKVR_SHAPE_MISMATCH. */
  rotateInverse(input: RotateInput): void {
    this.#turn(input, -1, 1 / this.magnitude);
  }

  #turn({ vectors, positions, numHeads, out }: RotateInput, direction: 1 | -1, magnitude: number): void {
    const { headDim, frequencies } = this;
    const rowLength = numHeads * headDim;
    const numTokens = positions?.length ?? Math.floor(vectors.length / rowLength);
    const op = 'RotaryEmbedding.rotate';
    const shape = `[numTokens, numHeads, headDim] = [${numTokens}, ${numHeads}, ${headDim}]`;
    checkLength(vectors.length, numTokens * rowLength, { op, name: 'vectors', shape });
    checkCapacity(out.length, vectors.length, { op, name: 'out' });
    const half = this.rotaryDim / 2;
    const [step, partner] = this.pairing === 'half' ? [1, half] : [2, 1];
    if (out !== vectors) out.set(vectors);
    for (let token = 0; token < numTokens; token++) {
      const position = positions === undefined ? token : positions[token]!;
      for (let i = 0; i < half; i++) {
        const angle = position * frequencies[i]! * direction;
        const cos = Math.cos(angle) * magnitude;
        const sin = Math.sin(angle) * magnitude;
        for (let head = 0; head < numHeads; head++) {
          const a = token * rowLength + head * headDim + i * step;
          const x = out[a]!;
          const y = out[a + partner]!;
          out[a] = x * cos - y * sin;
          out[a + partner] = x * sin + y * cos;
        }
      }
    }
  }
}
