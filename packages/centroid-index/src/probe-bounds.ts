/** How much a probe can return, to size buffers by. */
import { type BlockInfo, type IndexedRegion, postingListLength, type SelectorOptions } from '@ctkvr/core';

export interface ProbeBounds {
  /** Most centroids a probe returns. */
  readonly numProbed: number;
  /** Most candidates: the centroids' lists, the positions after the first one's block, and the tail's heaviest clusters together. */
  readonly maxCandidates: number;
}

export function probeBounds(of: {
  readonly blocks: readonly BlockInfo[];
  readonly region: IndexedRegion;
  readonly options: SelectorOptions;
  readonly groupSize: number;
}): ProbeBounds {
  const { blocks, region, options, groupSize } = of;
  const oldest = blocks[0];
  if (oldest === undefined) return { numProbed: 0, maxCandidates: 0 };
  const regionLength = region.end - region.start;
  const lists = blocks.reduce((sum, { numCentroids }) => sum + Math.ceil(numCentroids / options.centroidsPerList), 0);
  const longest = Math.max(
    ...blocks.map(({ end }) => postingListLength(options, { numKeys: end - region.start, groupSize })),
  );
  const numProbed = Math.min(options.numProbes, lists);
  // One cluster may hold nearly everything.
  const widest = options.tail && options.clusterProbes > 0 ? regionLength : 0;
  const most = Math.max(widest, numProbed * longest + (region.end - oldest.end));
  return { numProbed, maxCandidates: Math.min(regionLength, most) };
}
