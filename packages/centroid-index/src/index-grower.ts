/** Makes the states that an index goes through: the first build, growth by appended tokens, the end of a turn, repairs. */
import { centroidCount, type IndexedRegion, indexedRegion, postingListLength, type SelectorOptions } from '@ctkvr/core';
import { buildSegment, type SegmentInput } from './build-segment.js';
import type { AppendInput } from './centroid-index.js';
import { keepsQuery, nextGrowth, type Phase } from './growth.js';
import type { IndexImage } from './index-image.js';
import type { PagedRows } from './paged-rows.js';
import { baseCentroids, SegmentRow } from './segment-row.js';
import { Tail } from './tail.js';
import { buildTailSegment } from './tail-segment.js';
import { measureVolatility } from './volatility.js';

/** What can change of an index. Immutable: an operation makes a new state, which the index adopts when the operation succeeds. */
export type IndexState = Pick<IndexImage, 'numTokens' | 'row' | 'builtAt' | 'kept'>;

export interface IndexGrowerInput {
  /** The index's own rows; `append` adds to them. */
  readonly keys: PagedRows;
  readonly values: PagedRows;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
}

/** Every operation is a generator that yields at least once a posting list and returns the new state. */
export class IndexGrower {
  readonly #keys: PagedRows;
  readonly #values: PagedRows;
  readonly #headDim: number;
  readonly #groupSize: number;
  readonly #options: SelectorOptions;

  constructor({ keys, values, headDim, groupSize, options }: IndexGrowerInput) {
    this.#keys = keys;
    this.#values = values;
    this.#headDim = headDim;
    this.#groupSize = groupSize;
    this.#options = options;
  }

  /** Stores `numNew` tokens and grows the index wherever it is due. Rows that were added stay when it fails: the caller drops them. */
  *append(
    before: IndexState,
    { keys, values, queries, phase }: AppendInput,
    numNew: number,
  ): Generator<void, IndexState> {
    this.#keys.append(keys);
    this.#values.append(values);
    const first = before.numTokens;
    const positions = Array.from({ length: numNew }, (_, i) => first + i).filter((p) => keepsQuery(p, phase));
    let state: IndexState = { ...before, kept: before.kept.with({ positions, queries, first }) };
    for (let boundary = this.#nextGrowth(state, phase); boundary <= first + numNew; ) {
      state = yield* this.#grow({ ...state, numTokens: boundary });
      boundary = this.#nextGrowth(state, phase);
    }
    return { ...state, numTokens: first + numNew };
  }

  #nextGrowth({ builtAt, numTokens }: IndexState, phase: Phase): number {
    const last = builtAt.at(-1);
    if (phase === 'prefill' || last === undefined) return Number.POSITIVE_INFINITY;
    return nextGrowth({ builtAt: last, numTokens, appendSize: this.#options.appendSize });
  }

  /** Adds a segment of the queries kept since the last one, if there are any. */
  *#grow(state: IndexState): Generator<void, IndexState> {
    const { row, numTokens, kept } = state;
    if (row === null) return state;
    const most = this.mostCentroids(this.#regionFrom(row.region.start, numTokens));
    const { rows: queries } = kept.of({ start: row.newest.grownAt, end: numTokens, most });
    return queries.length === 0 ? state : yield* this.#withSegment(state, row, { queries, grownAt: numTokens });
  }

  /** Ends a turn: a segment of the queries kept since the last one, or a new index where a cut left none. */
  *extend(state: IndexState): Generator<void, IndexState> {
    let extended = state;
    if (state.row !== null) {
      extended = yield* this.#grow(state);
    } else {
      const most = this.mostCentroids(indexedRegion(state.numTokens, this.#options));
      const { rows: queries } = state.kept.of({ start: 0, end: state.numTokens, most });
      if (queries.length === 0) return state;
      extended = this.#withoutOldQueries({ ...state, row: yield* this.firstRow(state, queries) });
    }
    const builtAt = [...state.builtAt.filter((at) => at < state.numTokens), state.numTokens];
    return { ...extended, builtAt };
  }

  /** Adds a segment of one query, f32 [groupSize, headDim]. Which queries the next growth takes does not change. */
  *insert(state: IndexState, row: SegmentRow, query: Float32Array): Generator<void, IndexState> {
    return yield* this.#withSegment(state, row, { queries: query, grownAt: row.newest.grownAt });
  }

  /** Builds the index over what is stored now, from nothing. */
  *firstRow(state: IndexState, queries: Float32Array): Generator<void, SegmentRow> {
    const region = indexedRegion(state.numTokens, this.#options);
    const input = this.#segmentInput({ numTokens: state.numTokens, region, queries, grownAt: state.numTokens });
    const none = this.#options.tail ? new Tail([], new Float32Array(this.#groupSize)) : null;
    const uncorrected = yield* this.#extendedTail(none, { ...region, madeAt: state.numTokens });
    const segment = yield* buildSegment(input);
    const { numProbes, clusterProbes } = this.#options;
    const meter = measureVolatility({ input, segment, tail: uncorrected, numProbes, clusterProbes });
    const { corrections, ...measured } = yield* meter;
    const tail = uncorrected?.corrected(corrections) ?? null;
    const numBase = baseCentroids(this.#options, segment.numCentroids);
    return new SegmentRow({ ...measured, tail, segments: [segment], numBase, knownFrom: 0 });
  }

  *#withSegment(
    state: IndexState,
    row: SegmentRow,
    { queries, grownAt }: { readonly queries: Float32Array; readonly grownAt: number },
  ): Generator<void, IndexState> {
    const { start, end: before } = row.region;
    const region = this.#regionFrom(start, state.numTokens);
    const segment = yield* buildSegment(this.#segmentInput({ numTokens: state.numTokens, region, queries, grownAt }));
    const tail = yield* this.#extendedTail(row.tail, { start: before, end: region.end, madeAt: state.numTokens });
    return this.#withoutOldQueries({ ...state, row: row.extended(segment, tail) });
  }

  /** The region of a later segment that is made when `numTokens` are stored. */
  #regionFrom(start: number, numTokens: number): IndexedRegion {
    return { start, end: Math.max(start, numTokens - this.#options.recentWindow) };
  }

  /** Most centroids of a segment over a region. */
  mostCentroids({ start, end }: IndexedRegion): number {
    return centroidCount(this.#options, end - start);
  }

  /** The tail with one more segment, where the region grew. */
  *#extendedTail(
    tail: Tail | null,
    of: { readonly start: number; readonly end: number; readonly madeAt: number },
  ): Generator<void, Tail | null> {
    if (tail === null || of.end === of.start) return tail;
    const { clusterSize } = this.#options;
    return tail.with(yield* buildTailSegment({ keys: this.#keys, values: this.#values, ...of, clusterSize }));
  }

  #segmentInput(of: {
    readonly numTokens: number;
    readonly region: IndexedRegion;
    readonly queries: Float32Array;
    readonly grownAt: number;
  }): SegmentInput {
    const { numTokens, region, queries, grownAt } = of;
    const headDim = this.#headDim;
    const groupSize = this.#groupSize;
    const options = this.#options;
    const listLength = postingListLength(options, { numKeys: region.end - region.start, groupSize });
    const { centroidsPerList } = options;
    const shape = { headDim, groupSize, listLength, centroidsPerList, scale: 1 / Math.sqrt(headDim) };
    return { keys: this.#keys, ...shape, region, queries, madeAt: numTokens, grownAt };
  }

  /** Drops the queries that can become centroids no more, whatever is cut. */
  #withoutOldQueries(state: IndexState): IndexState {
    const oldest = state.row?.segments[0]?.grownAt ?? 0;
    const kept = state.kept.of({ start: oldest, end: Number.POSITIVE_INFINITY, most: Number.POSITIVE_INFINITY });
    return { ...state, kept };
  }
}
