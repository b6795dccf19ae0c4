/** Generated inputs of one layer's one KV head. */
import { createRandom } from './random.js';

export interface HeadData {
  /** f32 [numTokens, headDim], rotated. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. */
  readonly values: Float32Array;
  /** Centroid queries, f32 [numCentroids, groupSize, headDim], oldest first. */
  readonly queries: Float32Array;
  /** Queries to decode with, f32 [numDecodes, groupSize, headDim]. */
  readonly decodes: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
}

export interface HeadDataSizes {
  readonly seed: number;
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly numCentroids: number;
  readonly numDecodes: number;
}

/**
 * Returns data of integers from -range to range (default 3): products and sums of them are exact in f32 whatever the order of addition,
 * so scores, and ids where they are decided by scores, must be equal in every backend.
 * @param sizes `distinctKeys`, when given, draws keys from that many vectors only, which makes ties; `distinctQueries` does so for centroids.
 */
export function integerHeadData(
  sizes: HeadDataSizes & {
    readonly range?: number;
    readonly distinctKeys?: number;
    readonly distinctQueries?: number;
  },
): HeadData {
  const { seed, numTokens, headDim, groupSize, numCentroids, numDecodes, range = 3 } = sizes;
  const random = createRandom(seed);
  const rows = (count: number, length: number) =>
    Float32Array.from({ length: count * length }, () => random.integer(-range, range));
  const repeated = (count: number, length: number, distinct: number | undefined) => {
    if (distinct === undefined) return rows(count, length);
    const pool = rows(distinct, length);
    const all = new Float32Array(count * length);
    for (let row = 0; row < count; row++) {
      const from = random.integer(0, distinct - 1) * length;
      all.set(pool.subarray(from, from + length), row * length);
    }
    return all;
  };
  const keys = repeated(numTokens, headDim, sizes.distinctKeys);
  const values = rows(numTokens, headDim);
  const queries = repeated(numCentroids, groupSize * headDim, sizes.distinctQueries);
  // A decode query is a centroid query with some components moved: near one centroid, far from the others.
  const decodes = new Float32Array(numDecodes * groupSize * headDim);
  for (let i = 0; i < decodes.length; i++) {
    const row = Math.floor(i / (groupSize * headDim));
    const near = (row * 7 + 3) % numCentroids;
    const kept = queries[near * groupSize * headDim + (i % (groupSize * headDim))]!;
    decodes[i] = random.uniform() < 0.6 ? kept : random.integer(-range, range);
  }
  return { keys, values, queries, decodes, headDim, groupSize };
}

/** What an index is built from: a head's data without the queries to decode with. */
export function indexInput({ keys, values, queries, headDim, groupSize }: HeadData): Omit<HeadData, 'decodes'> {
  return { keys, values, queries, headDim, groupSize };
}

/** What a refiner reads. */
export function refinerInput({ keys, values, headDim, groupSize }: HeadData): Omit<HeadData, 'queries' | 'decodes'> {
  return { keys, values, headDim, groupSize };
}
