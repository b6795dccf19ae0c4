/**
 * Rotary position embedding of whole buffers, both pairings, forwards and back. Sines and cosines are taken in f64 from the exact
 * angle, because at position 100,000 an f32 angle is already off by 0.004 radian.
 */
import {
  type BackendChoice,
  CtkvrError,
  checkCapacity,
  checkFinite,
  checkInteger,
  checkLength,
  checkOptions,
  chooseBackend,
  type NativeRopeBinding,
  type NativeRotaryEmbedding,
  type OptionChecks,
  takes,
} from '@ctkvr/core';
import { ropeFrequencies } from './rope-frequencies.js';
import { type RopeScaling, resolveRopeScaling } from './rope-scaling.js';
import { TimeSlices } from './time-slices.js';

/**
 * Which dimensions turn together: `half` pairs i with i + rotaryDim / 2 (Qwen, GPT-NeoX; Hugging Face's Llama weights);
 * `adjacent` pairs 2i with 2i + 1 (the RoFormer paper; Llama weights in GGUF files).
 */
export type RopePairing = 'half' | 'adjacent';

export interface RopeOptions extends BackendChoice<NativeRopeBinding> {
  readonly headDim: number;
  readonly pairing: RopePairing;
  /** Dimensions that turn, from the first on, even; the rest passes unchanged. Default headDim. */
  readonly rotaryDim?: number;
  /** > 1. Default 10000. */
  readonly freqBase?: number;
  /** Default none. */
  readonly scaling?: RopeScaling;
}

/** A buffer of heads at positions. */
export interface RotateInput {
  /** f32 [numTokens, numHeads, headDim], finite. */
  readonly vectors: Float32Array;
  /** Position of each token, [numTokens]; any order. Default 0, 1, 2, ... */
  readonly positions?: Uint32Array;
  readonly numHeads: number;
  /** f32, at least as long as vectors; may be `vectors` itself. Undefined content after an error. */
  readonly out: Float32Array;
}

/** A rotation that leaves the JavaScript thread free. */
export interface RotateAsyncInput extends RotateInput {
  /** Rotate back. Default false. */
  readonly inverse?: boolean;
  /** Stops a reference run between two tokens with CTKVR_ABORTED. */
  readonly signal?: AbortSignal;
}

const optionChecks: OptionChecks<RopeOptions> = {
  headDim: takes.anything,
  pairing: takes.anything,
  rotaryDim: takes.anything,
  freqBase: takes.anything,
  scaling: takes.anything,
  backend: takes.anything,
  native: takes.anything,
};

const rotateChecks: OptionChecks<RotateInput> = {
  vectors: takes.float32,
  positions: takes.optional(takes.uint32),
  numHeads: takes.anything,
  out: takes.float32,
};

const rotateAsyncChecks: OptionChecks<RotateAsyncInput> = {
  ...rotateChecks,
  inverse: takes.optional(takes.boolean),
  signal: takes.optional(takes.abortSignal),
};

/** Rotary embedding with fixed options; immutable, so one may be shared. */
export class RotaryEmbedding {
  readonly backend: 'native' | 'reference';
  readonly headDim: number;
  readonly rotaryDim: number;
  readonly pairing: RopePairing;
  /** Radians per position, f64 [rotaryDim / 2]. */
  readonly frequencies: Float64Array;
  /** What rotated dimensions are multiplied by (YaRN); 1 otherwise. */
  readonly magnitude: number;
  readonly #native: NativeRotaryEmbedding | undefined;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE. */
  constructor(options: RopeOptions) {
    const op = 'RotaryEmbedding';
    checkOptions(op, options, optionChecks);
    const { headDim, pairing, rotaryDim = headDim, freqBase = 10_000, scaling = { type: 'none' } } = options;
    checkInteger(headDim, { op, name: 'headDim', min: 2, max: 65536 });
    checkInteger(rotaryDim, { op, name: 'rotaryDim', min: 2, max: headDim });
    if (pairing !== 'half' && pairing !== 'adjacent') {
      throw new CtkvrError(
        'CTKVR_INVALID_OPTION',
        `${op}: pairing must be 'half' or 'adjacent', got ${JSON.stringify(pairing)}`,
        { fields: { op, option: 'pairing', actual: String(pairing) } },
      );
    }
    const reference = ropeFrequencies({ rotaryDim, freqBase, scaling });
    const resolved = { headDim, pairing, rotaryDim, freqBase, scaling: resolveRopeScaling(scaling) };
    this.#native = chooseBackend(options)?.RotaryEmbedding.create(resolved);
    const { frequencies, magnitude } = this.#native ?? reference;
    this.backend = this.#native === undefined ? 'reference' : 'native';
    this.headDim = headDim;
    this.rotaryDim = rotaryDim;
    this.pairing = pairing;
    this.frequencies = frequencies;
    this.magnitude = magnitude;
  }

  /**
   * Writes the rotated vectors to `out`, on the JavaScript thread: for a few tokens. O(vectors).
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION.
   */
  rotate(input: RotateInput): void {
    this.#rotateNow(input, false);
  }

  /** Undoes `rotate`: out = vectors before rotation, up to f32 rounding. @throws {CtkvrError} as `rotate`. */
  rotateInverse(input: RotateInput): void {
    this.#rotateNow(input, true);
  }

  /**
   * `rotate` or `rotateInverse` of a long buffer: native on a worker thread, the reference in slices. `vectors` has been
   * read when this returns; `out` is written to until the promise settles: leave it alone before.
   * @throws {CtkvrError} as `rotate`, and CTKVR_ABORTED.
   */
  async rotateAsync(input: RotateAsyncInput): Promise<void> {
    const op = 'RotaryEmbedding.rotateAsync';
    checkOptions(op, input, rotateAsyncChecks);
    const { inverse = false } = input;
    const numTokens = this.#check(input, op);
    const slices = new TimeSlices(op, input.signal);
    if (this.#native !== undefined) return await this.#native.rotateAsync(nativeRotation(input, inverse));
    this.#start(input);
    for (let token = 0; token < numTokens; token++) {
      this.#turnToken(input, token, inverse);
      if (slices.isOver) await slices.pause();
    }
  }

  #rotateNow(input: RotateInput, inverse: boolean): void {
    const op = inverse ? 'RotaryEmbedding.rotateInverse' : 'RotaryEmbedding.rotate';
    checkOptions(op, input, rotateChecks);
    const numTokens = this.#check(input, op);
    if (this.#native !== undefined) {
      this.#native.rotate(nativeRotation(input, inverse));
      return;
    }
    this.#start(input);
    for (let token = 0; token < numTokens; token++) this.#turnToken(input, token, inverse);
  }

  /** Returns the number of tokens. */
  #check({ vectors, positions, numHeads, out }: RotateInput, op: string): number {
    checkInteger(numHeads, { op, name: 'numHeads', min: 1, max: 65536 });
    const rowLength = numHeads * this.headDim;
    const numTokens = positions?.length ?? Math.floor(vectors.length / rowLength);
    const shape = `[numTokens, numHeads, headDim] = [${numTokens}, ${numHeads}, ${this.headDim}]`;
    checkLength(vectors.length, numTokens * rowLength, { op, name: 'vectors', shape });
    checkCapacity(out.length, vectors.length, { op, name: 'out' });
    return numTokens;
  }

  #start({ vectors, out }: RotateInput): void {
    checkFinite(vectors, { op: 'RotaryEmbedding.rotate', name: 'vectors' });
    if (out !== vectors) out.set(vectors);
  }

  /** Rotates one token's heads in `out`, in place. */
  #turnToken({ positions, numHeads, out }: RotateInput, token: number, inverse: boolean): void {
    const { headDim, frequencies } = this;
    const [direction, magnitude] = inverse ? [-1, 1 / this.magnitude] : [1, this.magnitude];
    const half = this.rotaryDim / 2;
    const [step, partner] = this.pairing === 'half' ? [1, half] : [2, 1];
    const position = positions === undefined ? token : positions[token]!;
    for (let i = 0; i < half; i++) {
      const angle = position * frequencies[i]! * direction;
      const cos = Math.cos(angle) * magnitude;
      const sin = Math.sin(angle) * magnitude;
      for (let head = 0; head < numHeads; head++) {
        const a = (token * numHeads + head) * headDim + i * step;
        const x = out[a]!;
        const y = out[a + partner]!;
        out[a] = x * cos - y * sin;
        out[a + partner] = x * sin + y * cos;
      }
    }
  }
}

/** The native side works in place, so that it holds one array and not two that may be the same memory. */
function nativeRotation({ vectors, positions, numHeads, out }: RotateInput, inverse: boolean) {
  if (out !== vectors) out.set(vectors);
  const inPlace = { vectors: out.subarray(0, vectors.length), numHeads, inverse };
  return positions === undefined ? inPlace : { ...inPlace, positions };
}
