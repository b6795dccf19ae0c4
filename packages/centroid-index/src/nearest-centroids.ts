/** The probe: which centroids are most like a query, by the cosine of pooled vectors. */
import type { CentroidBlock } from './centroid-block.js';
import { pooledVector } from './pooled-vector.js';

export interface NearCentroid {
  /** Counted through the blocks. */
  readonly centroid: number;
  readonly similarity: number;
}

/**
 * Returns the best centroids of at most `numProbes` different lists, best first (ties: smaller id).
 * @param input.query f32 [groupSize, headDim]. @param input.numCentroids only the first so many are looked at; default all.
 */
export function nearestCentroids(input: {
  readonly blocks: readonly CentroidBlock[];
  readonly query: Float32Array;
  readonly numProbes: number;
  readonly numCentroids?: number;
}): NearCentroid[] {
  const { blocks, query, numProbes } = input;
  const pooled = new Float32Array(blocks[0]!.headDim);
  pooledVector(query, pooled);
  const places = blocks.flatMap((block) =>
    Array.from({ length: block.numCentroids }, (_, place) => ({ block, place })),
  );
  const near = places.slice(0, input.numCentroids).map(({ block, place }, centroid) => {
    return { centroid, similarity: block.pooled.dot(place, pooled), list: block.lists[block.listOf(place)] };
  });
  near.sort((a, b) => b.similarity - a.similarity || a.centroid - b.centroid);
  const probed = new Set<unknown>();
  return near.filter(({ list }) => probed.size < numProbes && !probed.has(list) && probed.add(list));
}
