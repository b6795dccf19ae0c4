/** Makes a segment of centroids over a region, list by list. */
import { type ListInput, listBuilder } from './build-list.js';
import { CentroidSegment } from './centroid-segment.js';
import { Int8Rows } from './int8-rows.js';
import { pooledVector } from './pooled-vector.js';

export interface SegmentInput extends ListInput {
  readonly madeAt: number;
  readonly grownAt: number;
}

/** Yields between lists; each takes O(centroidsPerList * groupSize * region * headDim). */
export function* buildSegment(input: SegmentInput): Generator<void, CentroidSegment> {
  const { groupSize, headDim, centroidsPerList, madeAt, grownAt, region } = input;
  const numCentroids = input.queries.length / (groupSize * headDim);
  const numLists = Math.ceil(numCentroids / centroidsPerList);
  const build = listBuilder(input);
  const lists: Uint32Array[] = [];
  for (let list = 0; list < numLists; list++) {
    lists.push(build(list));
    yield;
  }
  const pooled = pooledRows(input, numCentroids);
  const { start, end } = region;
  const shape = { start, end, madeAt, grownAt, groupSize, headDim, centroidsPerList };
  return new CentroidSegment({ ...shape, pooled, lists });
}

/** Pooled vectors of all centroids, as 8-bit codes. */
function pooledRows({ queries, groupSize, headDim }: SegmentInput, numCentroids: number): Int8Rows {
  const rows = new Int8Rows(numCentroids, headDim);
  const rowLength = groupSize * headDim;
  const pooled = new Float32Array(headDim);
  for (let centroid = 0; centroid < numCentroids; centroid++) {
    pooledVector(queries.subarray(centroid * rowLength, (centroid + 1) * rowLength), pooled);
    rows.store(centroid, pooled);
  }
  return rows;
}
