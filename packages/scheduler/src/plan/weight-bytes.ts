/** Bytes of a model's weights by their format. */
import type { ModelShape } from './model-shape.js';

export const weightFormats = ['f16', 'q8_0', 'q4_k_m'] as const;
export type WeightFormat = (typeof weightFormats)[number];

/**
 * Bytes of one weight. q8_0: 32 codes of a byte and an f16 scale. q4_k_m: 4.85 bits, the mean over a llama.cpp file of that name, which keeps some
 * matrices in Q6_K.
 */
const bytesOfWeight: Readonly<Record<WeightFormat, number>> = { f16: 2, q8_0: 34 / 32, q4_k_m: 4.85 / 8 };

/** Returns the bytes of weights that a step reads; `format` null = what the model's file has. */
export function weightBytes(model: ModelShape, format: WeightFormat | null): number {
  if (format === null && model.weightsBytes !== undefined) return model.weightsBytes;
  return model.numParameters * bytesOfWeight[format ?? 'f16'];
}
