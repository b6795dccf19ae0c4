/** Writes the sections of an index image. */

/** Sections begin at multiples of it: a cache line, and more than any element needs. */
export const imageAlignment = 64;

export class ImageWriter {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  u8s(values: Uint8Array): void {
    this.#reserve(values.length);
    this.#bytes.set(values, this.#length);
    this.#length += values.length;
  }

  u16s(values: Iterable<number>): void {
    for (const value of values) {
      this.#reserve(2);
      this.#view.setUint16(this.#length, value, true);
      this.#length += 2;
    }
  }

  u32s(values: Iterable<number>): void {
    for (const value of values) {
      this.#reserve(4);
      this.#view.setUint32(this.#length, value, true);
      this.#length += 4;
    }
  }

  f32s(values: Iterable<number>): void {
    for (const value of values) {
      this.#reserve(4);
      this.#view.setFloat32(this.#length, value, true);
      this.#length += 4;
    }
  }

  /** Adds zeros up to where a section may begin. */
  align(): void {
    const aligned = Math.ceil(this.#length / imageAlignment) * imageAlignment;
    this.#reserve(aligned - this.#length);
    this.#length = aligned;
  }

  /** Returns all that was written. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + more));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
