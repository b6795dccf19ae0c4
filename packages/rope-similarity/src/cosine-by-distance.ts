/**
 * How similar rotated queries are to their neighbours: the paper's first observation (arXiv 2512.15550), as data that a plot can take.
 */
import { checkInteger, checkLength } from '@ctkvr/core';
import { groupCosine } from './group-cosine.js';

export interface CosineByDistance {
  /** Positions apart, as asked. */
  readonly distances: Uint32Array;
  /** Mean of the group cosine over all pairs that far apart, f64; NaN where there is no pair. */
  readonly mean: Float64Array;
  /** Smallest group cosine, f64; NaN where there is no pair. */
  readonly min: Float64Array;
  /** Pairs counted. */
  readonly count: Uint32Array;
}

/**
 * Returns mean and smallest cosine of queries `distance` positions apart, for each distance.
 * Cost: distances.length * numTokens * groupSize * headDim multiplications.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_INVALID_OPTION.
 */
export function cosineByDistance(input: {
  /** f32 [numTokens, groupSize, headDim], rotated, at consecutive positions. */
  readonly queries: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  readonly distances: Uint32Array;
}): CosineByDistance {
  const { queries, groupSize, headDim, distances } = input;
  const op = 'cosineByDistance';
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
  const row = groupSize * headDim;
  const numTokens = Math.floor(queries.length / row);
  checkLength(queries.length, numTokens * row, {
    op,
    name: 'queries',
    shape: `[numTokens, groupSize, headDim] = [${numTokens}, ${groupSize}, ${headDim}]`,
  });
  const mean = new Float64Array(distances.length).fill(Number.NaN);
  const min = new Float64Array(distances.length).fill(Number.NaN);
  const count = new Uint32Array(distances.length);
  distances.forEach((distance, i) => {
    let sum = 0;
    let smallest = Number.POSITIVE_INFINITY;
    const pairs = Math.max(0, numTokens - distance);
    for (let token = 0; token < pairs; token++) {
      const cosine = groupCosine({
        a: queries,
        aOffset: token * row,
        b: queries,
        bOffset: (token + distance) * row,
        groupSize,
        headDim,
      });
      sum += cosine;
      smallest = Math.min(smallest, cosine);
    }
    if (pairs === 0) return;
    count[i] = pairs;
    mean[i] = sum / pairs;
    min[i] = smallest;
  });
  return { distances, mean, min, count };
}
