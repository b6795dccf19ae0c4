/**
 * Clusters of the keys and values of one stretch of positions. They estimate what a step does not read: the keys of a cluster score nearly
 * alike for any query, so its mean key and mean value stand for all of it. Immutable: forks share it.
 */
import { roundToFloat16 } from './float16.js';
import { clusterRows } from './k-means.js';
import type { PagedRows } from './paged-rows.js';

export class TailSegment {
  /** Position of the first. */
  readonly start: number;
  /** Tokens stored when it was made: cutting the sequence shorter drops it. */
  readonly madeAt: number;
  /** u16 [positions]: the cluster of each. */
  readonly clusterOf: Uint16Array;
  /** f32 [numClusters, headDim], f16 numbers: mean keys and mean values. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
  /** u32 [numClusters]: positions of each cluster, at least one. */
  readonly counts: Uint32Array;

  constructor(parts: Pick<TailSegment, 'start' | 'madeAt' | 'clusterOf' | 'keys' | 'values'> & { headDim: number }) {
    this.start = parts.start;
    this.madeAt = parts.madeAt;
    this.clusterOf = parts.clusterOf;
    this.keys = parts.keys;
    this.values = parts.values;
    this.counts = new Uint32Array(parts.keys.length / parts.headDim);
    for (const cluster of parts.clusterOf) this.counts[cluster]!++;
  }

  get end(): number {
    return this.start + this.clusterOf.length;
  }

  get numClusters(): number {
    return this.counts.length;
  }

  get sizeBytes(): number {
    const { clusterOf, keys, values, counts } = this;
    return clusterOf.byteLength + keys.byteLength + values.byteLength + counts.byteLength;
  }
}

/** Returns the segment of positions [start, end), at least one. Yields as `clusterRows` does, whose cost it is with rows of 2 headDim. */
export function* buildTailSegment(input: {
  /** Rows are positions. */
  readonly keys: PagedRows;
  readonly values: PagedRows;
  readonly start: number;
  readonly end: number;
  readonly madeAt: number;
  readonly clusterSize: number;
}): Generator<void, TailSegment> {
  const { keys, values, start, madeAt, clusterSize } = input;
  const headDim = keys.rowLength;
  const clusterOf = yield* clusterRows({ rows: jointRows(input), rowLength: 2 * headDim, clusterSize });
  const means = { start, clusterOf };
  return new TailSegment({
    start,
    madeAt,
    clusterOf,
    keys: meansOf({ ...means, rows: keys }),
    values: meansOf({ ...means, rows: values }),
    headDim,
  });
}

/**
 * What is clustered: f32 [positions, 2 headDim], each key, then its value times the power of two that makes both spread about equally far
 * around their means. A power of two keeps small integers exact.
 */
function jointRows(of: {
  readonly keys: PagedRows;
  readonly values: PagedRows;
  readonly start: number;
  readonly end: number;
}): Float32Array {
  const { keys, values, start, end } = of;
  const headDim = keys.rowLength;
  const width = 2 * headDim;
  const rows = new Float32Array((end - start) * width);
  for (let position = start; position < end; position++) {
    keys.load(position, rows, (position - start) * width);
    values.load(position, rows, (position - start) * width + headDim);
  }
  const keySpread = spread(rows, { width, first: 0, count: headDim });
  const valueSpread = spread(rows, { width, first: headDim, count: headDim });
  if (!(keySpread > 0 && valueSpread > 0)) return rows;
  const weight = 2 ** roundHalfAway(0.5 * Math.log2(keySpread / valueSpread));
  for (let row = 0; row < rows.length; row += width) {
    for (let d = headDim; d < width; d++) rows[row + d]! *= weight;
  }
  return rows;
}

/** Sum of the squared distances of `count` columns from their means. */
function spread(rows: Float32Array, of: { readonly width: number; readonly first: number; readonly count: number }) {
  const { width, first, count } = of;
  const sums = new Float64Array(count);
  let squares = 0;
  for (let row = 0; row < rows.length; row += width) {
    for (let d = 0; d < count; d++) {
      const x = rows[row + first + d]!;
      sums[d]! += x;
      squares += x * x;
    }
  }
  return squares - sums.reduce((total, sum) => total + sum * sum, 0) / (rows.length / width);
}

function roundHalfAway(x: number): number {
  return Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
}

/** The mean of each cluster's rows, f32 [numClusters, headDim], f16 numbers. */
function meansOf(of: {
  readonly rows: PagedRows;
  readonly start: number;
  readonly clusterOf: Uint16Array;
}): Float32Array {
  const { rows, start, clusterOf } = of;
  const headDim = rows.rowLength;
  const numClusters = clusterOf.reduce((most, cluster) => Math.max(most, cluster + 1), 0);
  const sums = new Float64Array(numClusters * headDim);
  const counts = new Uint32Array(numClusters);
  clusterOf.forEach((cluster, i) => {
    counts[cluster]!++;
    rows.addTo(start + i, sums, cluster * headDim);
  });
  return Float32Array.from(sums, (sum, i) => roundToFloat16(sum / counts[Math.floor(i / headDim)]!));
}
