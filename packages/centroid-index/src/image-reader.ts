/** Reads an index image that may be damaged or forged: every size is checked against the bytes that are left before memory is allocated. */
import { CtkvrError } from '@ctkvr/core';
import { imageAlignment } from './image-writer.js';
import { Int8Rows } from './int8-rows.js';

/** The error of an image that is not what it should be. */
export function badImage(field: string, expected: string | number, actual: string | number): CtkvrError {
  return new CtkvrError(
    'CTKVR_BAD_INDEX_IMAGE',
    `index image: ${field} must be ${expected}, got ${actual}. Write the image anew`,
    { fields: { field, expected: String(expected), actual: String(actual) } },
  );
}

export class ImageReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at: number;

  /** @param at where the first section begins. */
  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = at;
  }

  /** Where the next section begins. */
  get at(): number {
    return this.#at;
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  f32(at: number): number {
    return this.#view.getFloat32(at, true);
  }

  /** Returns the u32 at `at`. @throws {CtkvrError} CTKVR_BAD_INDEX_IMAGE when it is not from `least` to `most`. */
  size(field: string, at: number, { least, most }: { readonly least: number; readonly most: number }): number {
    const value = this.u32(at);
    if (value >= least && value <= most) return value;
    throw badImage(field, `from ${least} to ${most}`, value);
  }

  expectZeros(field: string, from: number, to: number): void {
    if (this.#bytes.subarray(from, to).some((byte) => byte !== 0)) throw badImage(field, 'zeros at its end', 'others');
  }

  /** Returns the next section, of the product of `sizes` bytes: a view. */
  take(field: string, sizes: readonly number[]): Uint8Array {
    const left = this.#bytes.length - this.#at;
    // Exact below 2^53; a larger product is rejected below as more than is left.
    const size = sizes.reduce((product, factor) => product * factor, 1);
    const padded = Math.ceil(size / imageAlignment) * imageAlignment;
    if (!(padded <= left)) throw badImage(field, `${size} bytes`, left);
    this.expectZeros(field, this.#at + size, this.#at + padded);
    const section = this.#bytes.subarray(this.#at, this.#at + size);
    this.#at += padded;
    return section;
  }

  u16s(field: string, counts: readonly number[]): Uint16Array {
    const section = new ImageReader(this.take(field, [...counts, 2]));
    return Uint16Array.from({ length: section.#bytes.length / 2 }, (_, i) => section.#view.getUint16(2 * i, true));
  }

  u32s(field: string, counts: readonly number[]): Uint32Array {
    const section = new ImageReader(this.take(field, [...counts, 4]));
    return Uint32Array.from({ length: section.#bytes.length / 4 }, (_, i) => section.u32(4 * i));
  }

  f32s(field: string, counts: readonly number[], allowed: (x: number) => boolean): Float32Array {
    const section = new ImageReader(this.take(field, [...counts, 4]));
    const numbers = Float32Array.from({ length: section.#bytes.length / 4 }, (_, i) => section.f32(4 * i));
    const other = numbers.find((x) => !allowed(x));
    if (other !== undefined) throw badImage(field, 'finite numbers', other);
    return numbers;
  }

  /** Codes, then scales, each a section. */
  rows(field: string, numRows: number, rowLength: number): Int8Rows {
    const codes = this.take(field, [numRows, rowLength]);
    const scales = this.f32s(field, [numRows], (x) => Number.isFinite(x) && !(x < 0) && !Object.is(x, -0));
    const rows = new Int8Rows(numRows, rowLength);
    rows.codes.set(new Int8Array(codes.buffer, codes.byteOffset, codes.length));
    rows.scales.set(scales);
    return rows;
  }
}
