/** The direction that stands for a group's query vectors: what queries and centroids are compared by. */

/**
 * Writes the normalised sum of the normalised heads of a query to `out`. A head of length 0 has no direction and adds nothing; zeros when
 * none has one.
 * @param query f32 [groupSize, headDim]. @param out f32 or f64 [headDim]; sums are rounded to its type.
 */
export function pooledVector(query: Float32Array, out: Float32Array | Float64Array): void {
  const headDim = out.length;
  out.fill(0);
  for (let start = 0; start < query.length; start += headDim) {
    const head = query.subarray(start, start + headDim);
    const length = lengthOf(head);
    if (length > 0) for (let d = 0; d < headDim; d++) out[d]! += head[d]! / length;
  }
  const length = lengthOf(out);
  if (length > 0) for (let d = 0; d < headDim; d++) out[d]! /= length;
}

function lengthOf(vector: Float32Array | Float64Array): number {
  let squares = 0;
  for (const x of vector) squares += x * x;
  return Math.sqrt(squares);
}
