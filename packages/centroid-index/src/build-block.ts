/** Makes a block of centroids over a region, list by list. */
import { type ListInput, listBuilder } from './build-list.js';
import { CentroidBlock } from './centroid-block.js';
import { Int8Rows } from './int8-rows.js';
import { unitVectors } from './unit-vectors.js';

export interface BlockInput extends ListInput {
  readonly madeAt: number;
  readonly grownAt: number;
}

/** Yields between lists; each takes O(centroidsPerList * groupSize * region * headDim). */
export function* buildBlock(input: BlockInput): Generator<void, CentroidBlock> {
  const { groupSize, headDim, centroidsPerList, madeAt, grownAt, region } = input;
  const numCentroids = input.queries.length / (groupSize * headDim);
  const numLists = Math.ceil(numCentroids / centroidsPerList);
  const build = listBuilder(input);
  const lists: Uint32Array[] = [];
  for (let list = 0; list < numLists; list++) {
    lists.push(build(list));
    yield;
  }
  const { pooled, unit } = directions(input, numCentroids);
  const { start, end } = region;
  const shape = { start, end, madeAt, grownAt, groupSize, headDim, centroidsPerList };
  return new CentroidBlock({ ...shape, pooled, unit, lists });
}

/** Unit and pooled vectors of all centroids. */
function directions({ queries, groupSize, headDim }: BlockInput, numCentroids: number) {
  const pooled = new Int8Rows(numCentroids, headDim);
  const unit = new Int8Rows(numCentroids * groupSize, headDim);
  const rowLength = groupSize * headDim;
  const heads = new Float32Array(rowLength);
  const sum = new Float32Array(headDim);
  for (let centroid = 0; centroid < numCentroids; centroid++) {
    const query = queries.subarray(centroid * rowLength, (centroid + 1) * rowLength);
    unitVectors({ query, headDim, unit: heads, pooled: sum });
    pooled.store(centroid, sum);
    for (let head = 0; head < groupSize; head++) {
      unit.store(centroid * groupSize + head, heads.subarray(head * headDim, (head + 1) * headDim));
    }
  }
  return { pooled, unit };
}
