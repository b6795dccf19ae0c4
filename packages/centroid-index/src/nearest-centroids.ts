/** The probe: which centroids are most like a query, by the cosine of pooled vectors. */
import type { CentroidSegment } from './centroid-segment.js';
import { pooledVector } from './pooled-vector.js';

export interface NearCentroid {
  /** Counted through the segments. */
  readonly centroid: number;
  readonly similarity: number;
}

/**
 * Returns the best centroids of at most `numProbes` different lists, best first (ties: smaller id).
 * @param input.query f32 [groupSize, headDim]. @param input.numCentroids only the first so many are looked at; default all.
 */
export function nearestCentroids(input: {
  readonly segments: readonly CentroidSegment[];
  readonly query: Float32Array;
  readonly numProbes: number;
  readonly numCentroids?: number;
}): NearCentroid[] {
  const { segments, query, numProbes } = input;
  const pooled = new Float32Array(segments[0]!.headDim);
  pooledVector(query, pooled);
  const places = segments.flatMap((segment) =>
    Array.from({ length: segment.numCentroids }, (_, place) => ({ segment, place })),
  );
  const near = places.slice(0, input.numCentroids).map(({ segment, place }, centroid) => {
    return { centroid, similarity: segment.pooled.dot(place, pooled), list: segment.lists[segment.listOf(place)] };
  });
  near.sort((a, b) => b.similarity - a.similarity || a.centroid - b.centroid);
  const probed = new Set<unknown>();
  return near.filter(({ list }) => probed.size < numProbes && !probed.has(list) && probed.add(list));
}
