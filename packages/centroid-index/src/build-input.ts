/** What an index is built from, and its one check. */
import {
  type BackendChoice,
  checkFinite,
  checkInteger,
  checkOptions,
  type NativeIndexBinding,
  type OptionChecks,
  type PresetName,
  resolveSelectorOptions,
  type SelectorOptions,
  selectorOptionNames,
  takes,
} from '@ctkvr/core';
import { checkRows } from './row-checks.js';

/** Which backend does the work. */
export interface IndexBackend extends BackendChoice<NativeIndexBinding> {
  /** Native kernels to use, such as 'scalar'; '' (default) = the best this machine has. */
  readonly isa?: string;
}

export interface BuildCentroidIndexInput extends IndexBackend {
  /** f32 [numTokens, headDim], rotated, position = row. At least one token. Copied. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. Copied. */
  readonly values: Float32Array;
  /**
   * The centroids: f32 [any number, groupSize, headDim], queries of past tokens, rotated at their own positions, oldest first. At most
   * `numCentroids` of them are used, see `options.centroids`.
   */
  readonly queries: Float32Array;
  readonly headDim: number;
  /** Query heads per KV head. */
  readonly groupSize: number;
  /** Settings, preset first; only those of the index matter here. Default: preset balanced, of the group. */
  readonly options?: Partial<SelectorOptions> & { readonly preset?: PresetName };
  /** Stops a reference build between two lists with CTKVR_ABORTED. */
  readonly signal?: AbortSignal;
}

/** The checks of the backend's options, for the tables of functions that take them. */
export const backendChecks: OptionChecks<IndexBackend> = {
  backend: takes.anything,
  native: takes.anything,
  isa: takes.optional(takes.text),
};

const inputChecks: OptionChecks<BuildCentroidIndexInput> = {
  ...backendChecks,
  keys: takes.float32,
  values: takes.float32,
  queries: takes.float32,
  headDim: takes.anything,
  groupSize: takes.anything,
  options: takes.anything,
  signal: takes.optional(takes.abortSignal),
};

/** Checked input: every length agrees, every number is finite. */
export interface ResolvedBuildInput {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
}

/** Returns the checked input. @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION. */
export function resolveBuildInput(input: BuildCentroidIndexInput): ResolvedBuildInput {
  const op = 'buildCentroidIndex';
  checkOptions(op, input, inputChecks, { options: selectorOptionNames });
  const { keys, values, queries, headDim, groupSize } = input;
  checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
  checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
  const options = resolveSelectorOptions(input.options, { groupSize });
  checkRows({ op, keys, values, queries, headDim, groupSize, least: 1 });
  for (const [name, numbers] of Object.entries({ keys, values, queries })) checkFinite(numbers, { op, name });
  return { keys, values, queries, headDim, groupSize, options };
}
