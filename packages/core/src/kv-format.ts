/** How a session stores its keys and values. */
import { CtkvrError } from './errors.js';

/** f16 = as llama.cpp does by default; q8 = 8-bit codes with an f32 scale for each 32 values: 9/16 of the bytes. */
export const kvFormats = ['f16', 'q8'] as const;
export type KvFormat = (typeof kvFormats)[number];

/** Values of a row that share a scale in q8. */
const Q8_BLOCK = 32;

/** Returns whether heads of so many values can be stored in a format. */
export function fitsKvFormat(headDim: number, format: KvFormat): boolean {
  return format !== 'q8' || headDim % Q8_BLOCK === 0;
}

/** @returns what was given, or the default `f16`. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function resolveKvFormat(format: KvFormat = 'f16'): KvFormat {
  if (kvFormats.includes(format)) return format;
  const expected = `one of ${kvFormats.join(', ')}`;
  throw new CtkvrError('CTKVR_INVALID_OPTION', `kvFormat must be ${expected}, got ${String(format)}`, {
    fields: { option: 'kvFormat', expected, actual: String(format) },
  });
}
