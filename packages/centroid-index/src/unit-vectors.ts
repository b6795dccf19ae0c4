/** Directions of a group's query vectors: one per head, and one pooled over the heads for the coarse step of a probe. */

/**
 * Writes query[h] / |query[h]| for each head to `unit`, and the normalised sum of those over heads to `pooled`.
 * A vector of length 0 has no direction: it gives zeros.
 * @param input.query f32 [groupSize, headDim]. @param input.unit f32 [groupSize, headDim]. @param input.pooled f32 [headDim].
 */
export function unitVectors(input: {
  readonly query: Float32Array;
  readonly headDim: number;
  readonly unit: Float32Array;
  readonly pooled: Float32Array;
}): void {
  const { query, headDim, unit, pooled } = input;
  pooled.fill(0);
  for (let start = 0; start < query.length; start += headDim) {
    normalise(query.subarray(start, start + headDim), unit.subarray(start, start + headDim));
    for (let d = 0; d < headDim; d++) pooled[d]! += unit[start + d]!;
  }
  normalise(pooled, pooled);
}

function normalise(vector: Float32Array, out: Float32Array): void {
  let squares = 0;
  for (const x of vector) squares += x * x;
  const inverse = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  for (let d = 0; d < vector.length; d++) out[d] = vector[d]! * inverse;
}
