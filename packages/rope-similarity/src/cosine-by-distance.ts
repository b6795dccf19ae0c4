/**
 * How similar rotated queries are to their neighbours, for the group and for each head: the paper's first observation (arXiv 2512.15550),
 * as data that a plot can take.
 */
import {
  type BackendChoice,
  type CosineByDistance,
  checkFinite,
  checkInteger,
  checkLength,
  checkOptions,
  chooseBackend,
  type NativeRopeBinding,
  type OptionChecks,
  takes,
} from '@ctkvr/core';
import { RunningStatistics } from './running-statistics.js';
import { TimeSlices } from './time-slices.js';

export interface CosineByDistanceInput extends BackendChoice<NativeRopeBinding> {
  /** f32 [numTokens, groupSize, headDim], rotated, finite, at consecutive positions. */
  readonly queries: Float32Array;
  /** Query heads a token has in `queries`: those of one KV head, or all of a layer. */
  readonly groupSize: number;
  readonly headDim: number;
  /** Positions apart. */
  readonly distances: Uint32Array;
  /** Stops a reference run between two tokens with CTKVR_ABORTED. */
  readonly signal?: AbortSignal;
}

const inputChecks: OptionChecks<CosineByDistanceInput> = {
  queries: takes.float32,
  groupSize: takes.anything,
  headDim: takes.anything,
  distances: takes.uint32,
  signal: takes.optional(takes.abortSignal),
  backend: takes.anything,
  native: takes.anything,
};

/**
 * Returns the cosines of queries `distance` positions apart, for each distance. A head of zeros has cosine 0 with everything.
 * Cost: distances.length * numTokens * groupSize * headDim multiplications; memory numTokens * groupSize f64 and the result, never
 * numTokens^2. Native runs on a worker thread, over the same buffer: leave it unchanged until then.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE, CTKVR_ABORTED.
 */
export async function cosineByDistance(input: CosineByDistanceInput): Promise<CosineByDistance> {
  const op = 'cosineByDistance';
  checkOptions(op, input, inputChecks);
  const { queries, groupSize, headDim, distances, signal } = input;
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
  const numTokens = Math.floor(queries.length / (groupSize * headDim));
  checkLength(queries.length, numTokens * groupSize * headDim, {
    op,
    name: 'queries',
    shape: `[numTokens, groupSize, headDim] = [${numTokens}, ${groupSize}, ${headDim}]`,
  });
  const native = chooseBackend(input);
  const slices = new TimeSlices(op, signal);
  if (native !== undefined) return await native.cosineByDistance({ queries, groupSize, headDim, distances });

  checkFinite(queries, { op, name: 'queries' });
  const inverseLengths = inverseLengthsOf(queries, headDim);
  const group = new RunningStatistics(distances.length);
  const heads = new RunningStatistics(distances.length * groupSize);
  const count = distances.map((distance) => Math.max(0, numTokens - distance));
  for (let i = 0; i < distances.length; i++) {
    for (let token = 0; token < count[i]!; token++) {
      let sum = 0;
      for (let head = 0; head < groupSize; head++) {
        const a = token * groupSize + head;
        const b = a + distances[i]! * groupSize;
        const dot = dotOfRows(queries, a * headDim, b * headDim, headDim);
        // Two roundings may carry the cosine of equal vectors beyond 1.
        const cosine = Math.max(-1, Math.min(1, dot * inverseLengths[a]! * inverseLengths[b]!));
        heads.add(i * groupSize + head, cosine);
        sum += cosine;
      }
      group.add(i, sum / groupSize);
      if (slices.isOver) await slices.pause();
    }
  }
  const { mean: headMean, min: headMin, max: headMax, standardDeviation: headStandardDeviation } = heads.result();
  return { distances, count, ...group.result(), headMean, headMin, headMax, headStandardDeviation };
}

/** 1 / |row| of every row, f64; 0 for a row of zeros. */
function inverseLengthsOf(vectors: Float32Array, rowLength: number): Float64Array {
  return Float64Array.from({ length: vectors.length / rowLength }, (_, row) => {
    const squares = dotOfRows(vectors, row * rowLength, row * rowLength, rowLength);
    return squares > 0 ? 1 / Math.sqrt(squares) : 0;
  });
}

function dotOfRows(vectors: Float32Array, a: number, b: number, rowLength: number): number {
  let dot = 0;
  for (let d = 0; d < rowLength; d++) dot += vectors[a + d]! * vectors[b + d]!;
  return dot;
}
