/** What an index is built from, and its one check. */
import {
  CtkvrError,
  checkFinite,
  checkInteger,
  checkLength,
  type IndexedRegion,
  indexedRegion,
  type PresetName,
  resolveSelectorOptions,
  type SelectorOptions,
} from '@ctkvr/core';
import type { NativeIndexBinding } from './native-seam.js';

export interface BuildCentroidIndexInput {
  /** f32 [numTokens, headDim], rotated, position = row. At least one token. Not kept. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. Not kept. */
  readonly values: Float32Array;
  /**
   * The centroids: f32 [any number, groupSize, headDim], queries of past tokens, rotated at their own positions, oldest first.
   * Only the last `numCentroids` of them are used. Not kept by the reference.
   */
  readonly queries: Float32Array;
  readonly headDim: number;
  /** Query heads per KV head. */
  readonly groupSize: number;
  /** Settings, preset first; only those of the index matter here. Default: preset balanced. */
  readonly options?: Partial<SelectorOptions> & { readonly preset?: PresetName };
  /** 'auto' (default): native when `native` is given, else reference. 'native': CTKVR_NATIVE_UNAVAILABLE without it. */
  readonly backend?: 'auto' | 'native' | 'reference';
  /** The native binary, from `loadBinding()` of @ctkvr/native. */
  readonly native?: NativeIndexBinding;
  /** Native kernels to use, such as 'scalar'; '' (default) = the best this machine has. */
  readonly isa?: string;
  /** Stops a reference build between two centroids with CTKVR_ABORTED. */
  readonly signal?: AbortSignal;
}

/** Checked input: every length agrees, every number is finite. */
export interface ResolvedBuildInput {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  /** f32 [numCentroids, groupSize, headDim]: a view of the last numCentroids queries. */
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
  readonly numTokens: number;
  readonly numCentroids: number;
  readonly options: SelectorOptions;
  readonly region: IndexedRegion;
  /** 1 / sqrt(headDim). */
  readonly scale: number;
}

/** Returns the checked input. @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION. */
export function resolveBuildInput(input: BuildCentroidIndexInput): ResolvedBuildInput {
  const { keys, values, headDim, groupSize } = input;
  const op = 'buildCentroidIndex';
  const options = resolveSelectorOptions(input.options);
  checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  const numTokens = rows({ numbers: keys.length, rowLength: headDim, name: 'keys', shape: 'numTokens, headDim' });
  const shape = `[numTokens, headDim] = [${numTokens}, ${headDim}]`;
  checkLength(values.length, keys.length, { op, name: 'values', shape });
  const rowLength = groupSize * headDim;
  const numQueries = rows({
    numbers: input.queries.length,
    rowLength,
    name: 'queries',
    shape: 'n, groupSize, headDim',
  });
  const numCentroids = Math.min(numQueries, options.numCentroids);
  const queries = input.queries.subarray((numQueries - numCentroids) * rowLength);
  for (const [name, numbers] of Object.entries({ keys, values, queries })) checkFinite(numbers, { op, name });
  const region = indexedRegion(numTokens, options);
  const scale = 1 / Math.sqrt(headDim);
  return { keys, values, queries, headDim, groupSize, numTokens, numCentroids, options, region, scale };
}

function rows(of: { numbers: number; rowLength: number; name: string; shape: string }): number {
  const count = of.numbers / of.rowLength;
  if (Number.isInteger(count) && count > 0) return count;
  throw new CtkvrError(
    'CTKVR_SHAPE_MISMATCH',
    `buildCentroidIndex: ${of.name} must hold a whole number, at least one, of rows [${of.shape}] of ${of.rowLength} numbers, got ${of.numbers} numbers; check headDim and groupSize`,
    { fields: { op: 'buildCentroidIndex', argument: of.name, rowLength: of.rowLength, actual: of.numbers } },
  );
}
