/** The probe: which centroids are most like a query. Coarse by pooled vectors, then by the mean cosine over heads. */
import type { CentroidBlock } from './centroid-block.js';
import { highestScores } from './highest-scores.js';
import { unitVectors } from './unit-vectors.js';

/** The coarse step keeps this many times numProbes centroids for the fine step. */
const coarseFactor = 8;

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
  const headDim = blocks[0]!.headDim;
  const unit = new Float32Array(query.length);
  const pooled = new Float32Array(headDim);
  unitVectors({ query, headDim, unit, pooled });
  const places = blocks.flatMap((block) =>
    Array.from({ length: block.numCentroids }, (_, place) => ({ block, place })),
  );
  const known = places.slice(0, input.numCentroids);
  const coarse = Float64Array.from(known, ({ block, place }) => block.pooled.dot(place, pooled));
  const near = Array.from(highestScores(coarse, Math.min(known.length, coarseFactor * numProbes)), (centroid) => {
    const { block, place } = known[centroid]!;
    return { centroid, similarity: block.similarity(place, unit), list: block.lists[block.listOf(place)] };
  });
  near.sort((a, b) => b.similarity - a.similarity || a.centroid - b.centroid);
  const probed = new Set<unknown>();
  return near.filter(({ list }) => probed.size < numProbes && !probed.has(list) && probed.add(list));
}
