/**
 * Whether similar queries attend to the same keys: the paper's second observation (arXiv 2512.15550), one point per pair of queries.
 */
import { checkInteger, checkLength } from '@ctkvr/core';
import { groupCosine } from './group-cosine.js';

export interface OverlapBySimilarity {
  /** Group cosine of each pair, f64 [numPairs]. */
  readonly similarity: Float64Array;
  /** Share of the topK keys of the first that are also among the topK of the second, f64 [numPairs], 0..1. */
  readonly overlap: Float64Array;
}

/**
 * Returns similarity and top-k overlap of pairs of queries against the same keys. The top k of a query are its keys of highest
 * group score (sum over heads of q.k); ties go to the smaller position. Cost: pairs * 2 * numKeys * groupSize * headDim.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_INVALID_OPTION.
 */
export function overlapBySimilarity(input: {
  /** f32 [numQueries, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  /** f32 [numKeys, headDim], rotated. */
  readonly keys: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  readonly topK: number;
  /** Rows of `queries`, [numPairs, 2]. */
  readonly pairs: Uint32Array;
}): OverlapBySimilarity {
  const { queries, keys, groupSize, headDim, topK, pairs } = input;
  const op = 'overlapBySimilarity';
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
  const row = groupSize * headDim;
  const numQueries = Math.floor(queries.length / row);
  const numKeys = Math.floor(keys.length / headDim);
  const queryShape = `[numQueries, groupSize, headDim] = [${numQueries}, ${groupSize}, ${headDim}]`;
  checkLength(queries.length, numQueries * row, { op, name: 'queries', shape: queryShape });
  checkLength(keys.length, numKeys * headDim, {
    op,
    name: 'keys',
    shape: `[numKeys, headDim] = [${numKeys}, ${headDim}]`,
  });
  checkLength(pairs.length % 2, 0, { op, name: 'pairs (length modulo 2)', shape: '[numPairs, 2]' });
  for (const query of pairs) checkInteger(query, { op, name: 'pairs', min: 0, max: numQueries - 1 });
  checkInteger(topK, { op, name: 'topK', min: 1, max: numKeys });
  const numPairs = pairs.length / 2;
  const similarity = new Float64Array(numPairs);
  const overlap = new Float64Array(numPairs);
  for (let pair = 0; pair < numPairs; pair++) {
    const aOffset = pairs[2 * pair]! * row;
    const bOffset = pairs[2 * pair + 1]! * row;
    similarity[pair] = groupCosine({ a: queries, aOffset, b: queries, bOffset, groupSize, headDim });
    const ofA = topKeys(queries.subarray(aOffset, aOffset + row), keys, headDim, topK);
    const ofB = topKeys(queries.subarray(bOffset, bOffset + row), keys, headDim, topK);
    let shared = 0;
    for (const position of ofA) if (ofB.has(position)) shared++;
    overlap[pair] = shared / topK;
  }
  return { similarity, overlap };
}

function topKeys(query: Float32Array, keys: Float32Array, headDim: number, topK: number): Set<number> {
  const scores = new Float64Array(keys.length / headDim);
  for (let position = 0; position < scores.length; position++) {
    let sum = 0;
    for (let i = 0; i < query.length; i++) sum += query[i]! * keys[position * headDim + (i % headDim)]!;
    scores[position] = sum;
  }
  const ranked = Uint32Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
  return new Set(ranked.subarray(0, topK));
}
