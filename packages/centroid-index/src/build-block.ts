/** Makes a block of centroids over a region, list by list. */
import { type ListInput, listBuilder } from './build-list.js';
import { type BlockTail, CentroidBlock } from './centroid-block.js';
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
  const tail = input.tail ? emptyTail(numLists * groupSize, headDim) : null;
  const build = listBuilder(input);
  const lists: Uint32Array[] = [];
  for (let list = 0; list < numLists; list++) {
    const built = build(list);
    lists.push(built.list);
    for (let head = 0; tail !== null && head < groupSize; head++) {
      const row = list * groupSize + head;
      const own = (vectors: Float32Array) => vectors.subarray(head * headDim, (head + 1) * headDim);
      tail.value.store(row, own(built.valueTail));
      tail.key.store(row, own(built.keyTail));
      const slope = tail.key.dot(row, input.queries, (built.middle * groupSize + head) * headDim);
      tail.base[row] = built.lseTail[head]! - input.scale * slope;
    }
    yield;
  }
  const { pooled, unit } = directions(input, numCentroids);
  const { start, end } = region;
  const shape = { start, end, madeAt, grownAt, groupSize, headDim, centroidsPerList };
  return new CentroidBlock({ ...shape, pooled, unit, lists, tail });
}

function emptyTail(numRows: number, headDim: number): BlockTail {
  const base = new Float32Array(numRows).fill(Number.NEGATIVE_INFINITY);
  return { base, value: new Int8Rows(numRows, headDim), key: new Int8Rows(numRows, headDim) };
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
