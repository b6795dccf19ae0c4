/** What a plan needs to know of a model: sizes only. Built-in shapes, so that a plan needs no model file. */
import { checkOptions, type OptionChecks, takes } from '@ctkvr/core';

export interface ModelShape {
  readonly name: string;
  readonly numLayers: number;
  readonly numQueryHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Weights that a step reads: all but the embedding table, of which a step reads a row and which stays on the host. */
  readonly numParameters: number;
  /** Bytes of these weights where a file says; else they follow from the format. */
  readonly weightsBytes?: number;
}

/**
 * By name. Sizes: each model's config.json on the Hugging Face hub. Parameters: those of the model less vocabulary x hidden size, except where the
 * output layer is the embedding table itself (SmolLM2, Qwen2.5-Coder-0.5B).
 */
export const modelShapes = {
  'llama-3-8b': shape('llama-3-8b', [32, 32, 8, 128], 7.5e9),
  'yi-9b': shape('yi-9b', [48, 32, 4, 128], 8.57e9),
  'smollm2-135m': shape('smollm2-135m', [30, 9, 3, 64], 134.5e6),
  'qwen2.5-coder-0.5b': shape('qwen2.5-coder-0.5b', [24, 14, 2, 64], 494e6),
} as const satisfies Record<string, ModelShape>;

const shapeChecks: OptionChecks<ModelShape> = {
  name: takes.text,
  numLayers: takes.integer(1, 10_000),
  numQueryHeads: takes.integer(1, 10_000),
  numKvHeads: takes.integer(1, 10_000),
  headDim: takes.integer(1, 10_000),
  numParameters: takes.number(1, 1e15),
  weightsBytes: takes.optional(takes.number(1, 1e15)),
};

/** Passes when the sizes are ones that a model can have. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkModelShape(op: string, model: ModelShape): void {
  checkOptions(`${op}.model`, model, shapeChecks);
}

/** (layer, KV head) pairs. */
export function countHeads({ numLayers, numKvHeads }: ModelShape): number {
  return numLayers * numKvHeads;
}

function shape(name: string, sizes: readonly [number, number, number, number], numParameters: number): ModelShape {
  const [numLayers, numQueryHeads, numKvHeads, headDim] = sizes;
  return { name, numLayers, numQueryHeads, numKvHeads, headDim, numParameters };
}
