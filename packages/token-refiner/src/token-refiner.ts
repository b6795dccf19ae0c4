/**
 * Refine and attend for one KV head over caller-owned keys and values: exact scores of the candidates, selection, attention over sinks +
 * window + selected, and the tail for all else (docs/design/retrieval.md). Holds the scratch memory, so that a
 * decode step allocates little; the steps are exported on their own as well.
 */
import {
  CtkvrError,
  checkCapacity,
  checkFinite,
  checkInteger,
  checkLength,
  checkOption,
  checkOptions,
  groupDefaults,
  type IndexedRegion,
  indexedRegion,
  type OptionChecks,
  type RefineRules,
  type TailEstimate,
  takes,
  UNBOUNDED,
} from '@ctkvr/core';
import { attendPositions } from './attend-positions.js';
import { groupWeights } from './group-weights.js';
import { logAddExp } from './log-sum-exp.js';
import { measuredMass } from './measured-mass.js';
import { chooseBackend, type NativeRefiner } from './native-refiner.js';
import { checkPartial, createPartialAttention, mergePartials, type PartialAttention } from './partial-attention.js';
import { scoreCandidates } from './score-candidates.js';
import { checkTopP, selectCandidates } from './select-candidates.js';
import { checkTail, tailPartial } from './tail-partial.js';

export interface TokenRefinerInput {
  /** f32 [numTokens, headDim], rotated. Kept, not copied. */
  readonly keys: Float32Array;
  /** f32 [numTokens, headDim]. Kept, not copied. */
  readonly values: Float32Array;
  readonly headDim: number;
  /** Query heads per KV head. */
  readonly groupSize: number;
  /** First positions, always attended. Default 16. */
  readonly numSinkTokens?: number;
  /** Last positions, always attended. Default 256. */
  readonly recentWindow?: number;
  /** Candidates whose values are read; 0 = all. Default: as `groupDefaults` of @ctkvr/core says. */
  readonly maxSelected?: number;
  /** Share of the candidates' weight that the selection must reach, in (0, 1]. Default 1 = off (top-k only). */
  readonly topP?: number;
  /** 'auto' (default): native when `native` is given, else reference. 'native': CTKVR_NATIVE_UNAVAILABLE without it. */
  readonly backend?: 'auto' | 'native' | 'reference';
  /** The native index over the same keys and values: `index.native` of @ctkvr/centroid-index, null when that is not native. */
  readonly native?: NativeRefiner | null | undefined;
}

const inputChecks: OptionChecks<TokenRefinerInput> = {
  keys: takes.float32,
  values: takes.float32,
  headDim: takes.anything,
  groupSize: takes.anything,
  numSinkTokens: takes.anything,
  recentWindow: takes.anything,
  maxSelected: takes.anything,
  topP: takes.anything,
  backend: takes.anything,
  native: takes.anything,
};
const scoresChecks = { query: takes.float32, candidates: takes.uint32, out: takes.float32 };
const selectChecks = { query: takes.float32, candidates: takes.uint32, out: takes.uint32 };
const attendChecks = {
  query: takes.float32,
  candidates: takes.uint32,
  tail: takes.optional(takes.object),
  out: takes.object,
};

/** Where `attend` writes. */
export interface AttentionOutput extends PartialAttention {
  /**
   * f32 [groupSize]: estimated share of the attention weight that was read exactly, 0..1: of what is known, which is the scores of all
   * candidates, and the tail when there is one.
   */
  readonly mass: Float32Array;
}

/** Returns fresh buffers for `attend`, to be used again for every step. */
export function createAttentionOutput(groupSize: number, headDim: number): AttentionOutput {
  return { ...createPartialAttention(groupSize, headDim), mass: new Float32Array(groupSize) };
}

export class TokenRefiner {
  readonly backend: 'reference' | 'native';
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly maxSelected: number;
  readonly topP: number;
  /** Positions between sinks and window: candidates must lie here. */
  readonly region: IndexedRegion;
  readonly #keys: Float32Array;
  readonly #values: Float32Array;
  readonly #native: NativeRefiner | undefined;
  readonly #rules: RefineRules;
  readonly #scores: Float32Array;
  readonly #weights: Float64Array;
  readonly #selected: Uint32Array;
  /** Sinks, selected, window: what one step attends to. */
  readonly #positions: Uint32Array;
  readonly #rest: PartialAttention;
  readonly #droppedLse: Float32Array;
  readonly #noTail: TailEstimate;

  /** @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE, CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE. */
  constructor(input: TokenRefinerInput) {
    const op = 'TokenRefiner';
    checkOptions(op, input, inputChecks);
    const { keys, values, headDim, groupSize, backend = 'auto', native } = input;
    const { numSinkTokens = 16, recentWindow = 256, topP = 1 } = input;
    checkInteger(headDim, { op, name: 'headDim', min: 1, max: 65536 });
    checkInteger(groupSize, { op, name: 'groupSize', min: 1, max: 65536 });
    checkInteger(numSinkTokens, { op, name: 'numSinkTokens', min: 0, max: UNBOUNDED });
    checkInteger(recentWindow, { op, name: 'recentWindow', min: 1, max: UNBOUNDED });
    const maxSelected = input.maxSelected ?? groupDefaults(groupSize).maxSelected;
    checkInteger(maxSelected, { op, name: 'maxSelected', min: 0, max: UNBOUNDED });
    checkTopP(topP, op);
    const numTokens = Math.floor(keys.length / headDim);
    const shape = `[numTokens, headDim] = [${numTokens}, ${headDim}]`;
    checkLength(keys.length, numTokens * headDim, { op, name: 'keys', shape });
    checkLength(values.length, numTokens * headDim, { op, name: 'values', shape });
    checkFinite(keys, { op, name: 'keys' });
    checkFinite(values, { op, name: 'values' });
    this.#keys = keys;
    this.#values = values;
    this.#native = chooseBackend(backend, native);
    this.backend = this.#native === undefined ? 'reference' : 'native';
    this.numTokens = numTokens;
    this.headDim = headDim;
    this.groupSize = groupSize;
    this.maxSelected = maxSelected;
    this.topP = topP;
    this.region = indexedRegion(numTokens, { numSinkTokens, recentWindow });
    this.#rules = { numTokens, ...this.region, maxSelected, topP };
    const regionLength = this.region.end - this.region.start;
    this.#scores = new Float32Array(groupSize * regionLength);
    this.#weights = new Float64Array(regionLength);
    this.#selected = new Uint32Array(regionLength);
    this.#positions = new Uint32Array(numTokens);
    this.#rest = createPartialAttention(groupSize, headDim);
    this.#droppedLse = new Float32Array(groupSize);
    const { lse, output: value } = createPartialAttention(groupSize, headDim);
    this.#noTail = { lse, value };
  }

  /**
   * Writes exact scores [groupSize, candidates.length] to `out`.
   * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE (query), CTKVR_INVALID_OPTION (candidates).
   */
  scores(input: { readonly query: Float32Array; readonly candidates: Uint32Array; readonly out: Float32Array }): void {
    const op = 'TokenRefiner.scores';
    checkOptions(op, input, scoresChecks);
    const { query, candidates, out } = input;
    const { groupSize, headDim } = this;
    checkCapacity(out.length, groupSize * candidates.length, { op, name: 'out' });
    this.#check(query, candidates, op);
    if (this.#native !== undefined) out.set(this.#native.scores(query, candidates));
    else scoreCandidates({ query, keys: this.#keys, candidates, headDim, groupSize, out });
  }

  /** Writes the selected candidates, ascending, and returns how many. Same errors as `scores`. */
  select(input: { readonly query: Float32Array; readonly candidates: Uint32Array; readonly out: Uint32Array }): number {
    checkOptions('TokenRefiner.select', input, selectChecks);
    const { query, candidates, out } = input;
    if (this.#native !== undefined) {
      this.#check(query, candidates, 'TokenRefiner.select');
      const selected = this.#native.selectAmong(query, candidates, this.#rules);
      checkCapacity(out.length, selected.length, { op: 'TokenRefiner.select', name: 'out' });
      out.set(selected);
      return selected.length;
    }
    this.scores({ query, candidates, out: this.#scores });
    return this.#selectScored(candidates, out);
  }

  /**
   * Writes the attention of `query`: exactly over sinks, window and the selected candidates, and estimated by `tail`, when there is one, over
   * the other positions. Returns the number of candidates selected. Same errors as `scores`.
   * @param input.candidates u32, ascending, no repeats, inside `region`.
   * @param input.tail what the region's other positions amount to for this query; left out, what is not read is ignored.
   */
  attend(input: {
    readonly query: Float32Array;
    readonly candidates: Uint32Array;
    readonly tail?: TailEstimate;
    readonly out: AttentionOutput;
  }): number {
    const op = 'TokenRefiner.attend';
    checkOptions(op, input, attendChecks);
    const { query, candidates, tail, out } = input;
    const { groupSize, headDim } = this;
    checkPartial(op, 'out', out);
    checkOption(op, 'out.mass', out.mass, takes.float32);
    if (tail !== undefined) checkTail(op, tail);
    checkCapacity(out.output.length, groupSize * headDim, { op, name: 'out.output' });
    checkCapacity(out.lse.length, groupSize, { op, name: 'out.lse' });
    checkCapacity(out.mass.length, groupSize, { op, name: 'out.mass' });
    if (this.#native !== undefined) {
      this.#check(query, candidates, op);
      const attention = this.#native.attendAmong(query, candidates, this.#rules, tail);
      for (const field of ['output', 'lse', 'mass'] as const) out[field].set(attention[field]);
      return attention.counters.selected;
    }
    this.scores({ query, candidates, out: this.#scores });
    const numSelected = this.#selectScored(candidates, this.#selected);
    const selected = this.#selected.subarray(0, numSelected);
    const positions = this.#positionsRead(selected);
    attendPositions({ query, keys: this.#keys, values: this.#values, positions, headDim, groupSize, out });
    const rest = this.#rest;
    const droppedLse = this.#droppedLse;
    const scored = { scores: this.#scores, candidates, selected };
    tailPartial({ tail: tail ?? this.#noTail, ...scored, groupSize, headDim, out: rest, droppedLse });
    for (let head = 0; head < groupSize; head++) {
      const unread = logAddExp(tail?.lse[head] ?? Number.NEGATIVE_INFINITY, droppedLse[head]!);
      const exact = out.lse[head]!;
      out.mass[head] = unread > Number.NEGATIVE_INFINITY ? Math.exp(exact - logAddExp(exact, unread)) : 1;
    }
    if (tail !== undefined) mergePartials({ partials: [out, rest], groupSize, headDim, out });
    return numSelected;
  }

  /**
   * Audits one step: writes the true share of the attention weight that `attend` with the same query and candidates reads exactly. Its
   * `out.mass` is the estimate of this. Reads every key, on the reference backend's arithmetic. Same errors as `scores`.
   * @param input.out f32, length >= groupSize. Collect the pairs in a `MassAudit`.
   */
  measureMass(input: {
    readonly query: Float32Array;
    readonly candidates: Uint32Array;
    readonly out: Float32Array;
  }): void {
    const op = 'TokenRefiner.measureMass';
    checkOptions(op, input, scoresChecks);
    const { query, candidates, out } = input;
    const { groupSize, headDim } = this;
    checkCapacity(out.length, groupSize, { op, name: 'out' });
    const selected = this.#selected.subarray(0, this.select({ query, candidates, out: this.#selected }));
    const positions = this.#positionsRead(selected);
    measuredMass({ query, keys: this.#keys, positions, headDim, groupSize, out });
  }

  /** Sinks, selected, window. */
  #positionsRead(selected: Uint32Array): Uint32Array {
    const { start, end } = this.region;
    const positions = this.#positions;
    let n = 0;
    for (let position = 0; position < start; position++) positions[n++] = position;
    for (const position of selected) positions[n++] = position;
    for (let position = end; position < this.numTokens; position++) positions[n++] = position;
    return positions.subarray(0, n);
  }

  #selectScored(candidates: Uint32Array, out: Uint32Array): number {
    const { groupSize, maxSelected, topP } = this;
    groupWeights({ scores: this.#scores, groupSize, numCandidates: candidates.length, out: this.#weights });
    return selectCandidates({ weights: this.#weights, candidates, maxSelected, topP, out });
  }

  #check(query: Float32Array, candidates: Uint32Array, op: string): void {
    const { groupSize, headDim } = this;
    const shape = `[groupSize, headDim] = [${groupSize}, ${headDim}]`;
    checkLength(query.length, groupSize * headDim, { op, name: 'query', shape });
    checkFinite(query, { op, name: 'query' });
    let previous = this.region.start - 1;
    for (const position of candidates) {
      if (position <= previous || position >= this.region.end) {
        throw new CtkvrError(
          'CTKVR_INVALID_OPTION',
          `${op}: candidates must ascend without repeats within [${this.region.start}, ${this.region.end}), got ${position} after ${previous}; pass a subarray when the buffer is longer than the list`,
          { fields: { op, option: 'candidates', actual: position } },
        );
      }
      previous = position;
    }
  }
}
