/**
 * Vectors as 8-bit codes with one f32 scale each: how centroids are stored, exactly as the Rust side stores them.
 * scale = maxAbs / 127; code = x / scale rounded half away from zero; a vector of zeros has scale 0 and codes 0. The error of a
 * component is at most scale / 2.
 */
export class Int8Rows {
  /** i8 [numRows, rowLength]. */
  readonly codes: Int8Array;
  /** f32 [numRows]. */
  readonly scales: Float32Array;
  readonly rowLength: number;

  constructor(numRows: number, rowLength: number) {
    this.codes = new Int8Array(numRows * rowLength);
    this.scales = new Float32Array(numRows);
    this.rowLength = rowLength;
  }

  get sizeBytes(): number {
    return this.codes.byteLength + this.scales.byteLength;
  }

  /** Stores `vector` (f32 [rowLength], finite) as row `row`. All arithmetic is f32, so that every backend gets the same codes. */
  store(row: number, vector: Float32Array): void {
    let maxAbs = 0;
    for (const x of vector) maxAbs = Math.max(maxAbs, Math.abs(x));
    const scale = Math.fround(maxAbs / 127);
    this.scales[row] = scale;
    for (let d = 0; d < this.rowLength; d++) {
      const ratio = scale === 0 ? 0 : Math.fround(vector[d]! / scale);
      this.codes[row * this.rowLength + d] = Math.sign(ratio) * Math.floor(Math.abs(ratio) + 0.5);
    }
  }

  /** Returns the dot product of row `row`, dequantised, with `vector` [rowLength], in f64. */
  dot(row: number, vector: Float32Array): number {
    let sum = 0;
    for (let d = 0; d < this.rowLength; d++) sum += vector[d]! * this.codes[row * this.rowLength + d]!;
    return sum * this.scales[row]!;
  }
}
