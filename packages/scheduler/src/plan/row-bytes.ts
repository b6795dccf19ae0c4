/** Bytes of one key, or one value, of one KV head. */
import type { KvFormat } from '@ctkvr/core';

/** Values that share a scale in q8, and the scale's bytes (f32). */
const Q8_BLOCK = 32;
const Q8_SCALE_BYTES = 4;

/** f16: 2 bytes a value. q8: a byte a value, and a scale for each 32 of them (docs/design/retrieval.md, section 1). */
export function rowBytes(headDim: number, format: KvFormat): number {
  return format === 'f16' ? 2 * headDim : headDim + Math.ceil(headDim / Q8_BLOCK) * Q8_SCALE_BYTES;
}
