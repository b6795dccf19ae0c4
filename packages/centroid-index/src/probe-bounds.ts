/** How much a probe can return, to size buffers by. */
import { type IndexedRegion, postingListLength, type SegmentInfo, type SelectorOptions } from '@ctkvr/core';

export interface ProbeBounds {
  /** Most centroids a probe returns. */
  readonly numProbed: number;
  /** Most candidates: the centroids' lists, the positions after the first one's segment, and the tail's heaviest clusters together. */
  readonly maxCandidates: number;
}

export function probeBounds(of: {
  readonly segments: readonly SegmentInfo[];
  readonly region: IndexedRegion;
  readonly options: SelectorOptions;
  readonly groupSize: number;
}): ProbeBounds {
  const { segments, region, options, groupSize } = of;
  const oldest = segments[0];
  if (oldest === undefined) return { numProbed: 0, maxCandidates: 0 };
  const regionLength = region.end - region.start;
  const lists = segments.reduce((sum, { numCentroids }) => sum + Math.ceil(numCentroids / options.centroidsPerList), 0);
  const longest = Math.max(
    ...segments.map(({ end }) => postingListLength(options, { numKeys: end - region.start, groupSize })),
  );
  const numProbed = Math.min(options.numProbes, lists);
  // One cluster may hold nearly everything.
  const widest = options.tail && options.clusterProbes > 0 ? regionLength : 0;
  const most = Math.max(widest, numProbed * longest + (region.end - oldest.end));
  return { numProbed, maxCandidates: Math.min(regionLength, most) };
}
