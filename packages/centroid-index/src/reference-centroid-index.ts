/** The index in plain TypeScript: the definition that every other backend is tested against. */
import {
  CtkvrError,
  checkCapacity,
  checkInteger,
  checkOptions,
  type IndexedRegion,
  indexedRegion,
  type SegmentInfo,
  type SelectorOptions,
  type TailInfo,
} from '@ctkvr/core';
import type { ResolvedBuildInput } from './build-input.js';
import type { AppendInput, CentroidIndex } from './centroid-index.js';
import { checkCandidates } from './check-candidates.js';
import { checkQuery } from './check-query.js';
import { encodeIndexImage } from './encode-index-image.js';
import { firstQueries } from './first-queries.js';
import { checkPhase } from './growth.js';
import { GuardedState } from './guarded-state.js';
import { IndexGrower, type IndexState } from './index-grower.js';
import type { IndexImage } from './index-image.js';
import { KeptQueries } from './kept-queries.js';
import { markedPositions } from './marked-positions.js';
import { appendChecks, methodChecks } from './method-checks.js';
import { nearestCentroids } from './nearest-centroids.js';
import { probeBounds } from './probe-bounds.js';
import { checkAppended } from './row-checks.js';
import { StoredRows } from './stored-rows.js';

export class ReferenceCentroidIndex implements CentroidIndex {
  readonly backend = 'reference';
  readonly native = null;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
  readonly #rows: StoredRows;
  readonly #grower: IndexGrower;
  readonly #state: GuardedState;

  private constructor(
    shape: { readonly headDim: number; readonly groupSize: number; readonly options: SelectorOptions },
    rows: StoredRows,
    state: IndexState,
  ) {
    const { headDim, groupSize, options } = shape;
    this.headDim = headDim;
    this.groupSize = groupSize;
    this.options = options;
    this.#rows = rows;
    this.#grower = new IndexGrower({ keys: rows.keys, values: rows.values, headDim, groupSize, options });
    this.#state = new GuardedState(rows, state);
  }

  /** Builds the tail, then list after list, then measures the volatility. Yields at least once a list. */
  static *build(input: ResolvedBuildInput): Generator<void, ReferenceCentroidIndex> {
    const { headDim, groupSize, options } = input;
    const rows = StoredRows.of(input, headDim);
    const numTokens = rows.keys.length;
    const state: IndexState = { numTokens, row: null, builtAt: [], kept: KeptQueries.none(groupSize * headDim) };
    const index = new ReferenceCentroidIndex(input, rows, state);
    const most = index.#grower.mostCentroids(indexedRegion(numTokens, options));
    const row = yield* index.#grower.firstRow(state, yield* firstQueries(input, most));
    index.#state.set({ ...state, row, builtAt: [numTokens] });
    return index;
  }

  /** Restores the index of an image over its keys and values. */
  static load(
    image: IndexImage,
    { keys, values }: { readonly keys: Float32Array; readonly values: Float32Array },
  ): ReferenceCentroidIndex {
    const { numTokens, row, builtAt, kept } = image;
    const rows = StoredRows.of({ keys, values }, image.headDim);
    return new ReferenceCentroidIndex(image, rows, { numTokens, row, builtAt, kept });
  }

  get numTokens(): number {
    return this.#state.open().numTokens;
  }

  get numCentroids(): number {
    return this.#state.open().row?.numCentroids ?? 0;
  }

  get region(): IndexedRegion {
    const { row, numTokens } = this.#state.open();
    const start = Math.min(this.options.numSinkTokens, numTokens);
    return row?.region ?? { start, end: start };
  }

  get segments(): readonly SegmentInfo[] {
    const active = this.#state.open().row?.active ?? [];
    return active.map(({ end, madeAt, numCentroids }) => ({ end, madeAt, numCentroids }));
  }

  get numProbed(): number {
    return probeBounds(this).numProbed;
  }

  get maxCandidates(): number {
    return probeBounds(this).maxCandidates;
  }

  get sizeBytes(): number {
    const { row, kept } = this.#state.open();
    return (row?.sizeBytes ?? 0) + kept.sizeBytes;
  }

  get volatility(): number {
    return this.#state.open().row?.volatility ?? 0;
  }

  get similarityFloor(): number {
    return this.#state.open().row?.similarityFloor ?? -1;
  }

  list(centroid: number): Uint32Array {
    const { segment, list } = this.#locate(centroid, 'list');
    return segment.lists[list]!.slice();
  }

  tail(): TailInfo | null {
    const tail = this.#state.open().row?.tail ?? null;
    if (tail === null) return null;
    const segments = tail.segments.map(({ start, madeAt, clusterOf, keys, values }) => {
      return { start, madeAt, clusterOf: clusterOf.slice(), keys: keys.slice(), values: values.slice() };
    });
    return { corrections: tail.corrections.slice(), segments };
  }

  probe(input: {
    readonly query: Float32Array;
    readonly centroids: Uint32Array;
    readonly similarities: Float32Array;
  }): number {
    const op = 'CentroidIndex.probe';
    checkOptions(op, input, methodChecks.probe);
    const { query, centroids, similarities } = input;
    this.#checkQuery(query, op);
    const { numProbed } = this;
    checkCapacity(centroids.length, numProbed, { op, name: 'centroids' });
    checkCapacity(similarities.length, numProbed, { op, name: 'similarities' });
    const { row } = this.#state.open();
    if (row === null) return 0;
    const nearest = nearestCentroids({ segments: row.active, query, numProbes: this.options.numProbes });
    nearest.forEach(({ centroid, similarity }, i) => {
      centroids[i] = centroid;
      similarities[i] = similarity;
    });
    return nearest.length;
  }

  candidates(input: { readonly centroids: Uint32Array; readonly out: Uint32Array }): number {
    checkOptions('CentroidIndex.candidates', input, methodChecks.candidates);
    const { centroids, out } = input;
    const { start, end } = this.region;
    const marks = new Uint8Array(end - start);
    centroids.forEach((centroid, rank) => {
      const { segment, list } = this.#locate(centroid, 'candidates');
      for (const position of segment.lists[list]!) marks[position - start] = 1;
      if (rank === 0) marks.fill(1, segment.end - start);
    });
    return writePositions(markedPositions(marks, start), out, 'CentroidIndex.candidates');
  }

  widen(input: { readonly query: Float32Array; readonly candidates: Uint32Array; readonly out: Uint32Array }): number {
    const op = 'CentroidIndex.widen';
    checkOptions(op, input, methodChecks.widen);
    const { query, candidates, out } = input;
    this.#checkQuery(query, op);
    const { start, end } = this.region;
    checkCandidates(candidates, { start, end }, op);
    const marks = new Uint8Array(end - start);
    for (const position of candidates) marks[position - start] = 1;
    const weighed = this.#state.open().row?.tail?.weigh({ query, taken: candidates });
    weighed?.takeHeaviest(this.options.clusterProbes, (position) => (marks[position - start] = 1));
    return writePositions(markedPositions(marks, start), out, op);
  }

  tailAt(input: {
    readonly query: Float32Array;
    readonly candidates: Uint32Array;
    readonly lse: Float32Array;
    readonly value: Float32Array;
  }): void {
    const op = 'CentroidIndex.tailAt';
    checkOptions(op, input, methodChecks.tailAt);
    const { query, candidates, lse, value } = input;
    const { groupSize, headDim } = this;
    this.#checkQuery(query, op);
    checkCandidates(candidates, this.region, op);
    checkCapacity(lse.length, groupSize, { op, name: 'lse' });
    checkCapacity(value.length, groupSize * headDim, { op, name: 'value' });
    lse.fill(Number.NEGATIVE_INFINITY, 0, groupSize);
    value.fill(0, 0, groupSize * headDim);
    this.#state.open().row?.tail?.weigh({ query, taken: candidates }).rest({ lse, value });
  }

  async append(input: AppendInput): Promise<void> {
    const op = 'CentroidIndex.append';
    checkOptions(op, input, appendChecks);
    const { headDim, groupSize } = this;
    this.#state.open();
    const numNew = checkAppended({ ...input, op, headDim, groupSize });
    checkPhase(input.phase, op);
    await this.#state.change(this.#grower.append(this.#state.open(), input, numNew), op, input.signal);
  }

  async extend(input: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const op = 'CentroidIndex.extend';
    checkOptions(op, input, methodChecks.extend);
    await this.#state.change(this.#grower.extend(this.#state.open()), op, input.signal);
  }

  async insert(query: Float32Array): Promise<void> {
    const op = 'CentroidIndex.insert';
    this.#checkQuery(query, op);
    const state = this.#state.open();
    if (state.row === null) {
      const expected = 'called on an index that has segments (extend makes some)';
      throw new CtkvrError('CTKVR_INVALID_OPTION', `insert must be ${expected}, got none`, {
        fields: { option: 'insert', expected, actual: 'none' },
      });
    }
    await this.#state.change(this.#grower.insert(state, state.row, query.slice()), op, undefined);
  }

  truncate(length: number): void {
    const { numTokens, row, builtAt, kept } = this.#state.open();
    checkInteger(length, { op: 'CentroidIndex.truncate', name: 'length', min: 0, max: numTokens });
    if (length === numTokens) return;
    this.#rows.truncate(length);
    const cut = row?.truncated(length) ?? null;
    this.#state.set({
      numTokens: length,
      row: cut,
      builtAt: cut === null ? [] : builtAt.filter((at) => at <= length),
      kept: kept.of({ start: 0, end: cut === null ? 0 : length, most: Number.POSITIVE_INFINITY }),
    });
  }

  fork(): CentroidIndex {
    const state = this.#state.open();
    return new ReferenceCentroidIndex(this, this.#rows.fork(), state);
  }

  async save(): Promise<Uint8Array> {
    const { headDim, groupSize, options } = this;
    return encodeIndexImage({ ...this.#state.open(), headDim, groupSize, options });
  }

  close(): void {
    this.#state.close();
  }

  #locate(centroid: number, method: string) {
    const { row } = this.#state.open();
    const max = (row?.numCentroids ?? 0) - 1;
    checkInteger(centroid, { op: `CentroidIndex.${method}`, name: 'centroid', min: 0, max });
    const { segment, place } = row!.locate(centroid);
    return { segment, list: segment.listOf(place) };
  }

  #checkQuery(query: Float32Array, op: string): void {
    this.#state.open();
    checkQuery(query, { op, groupSize: this.groupSize, headDim: this.headDim });
  }
}

/** Writes positions and returns how many. */
function writePositions(positions: Uint32Array, out: Uint32Array, op: string): number {
  checkCapacity(out.length, positions.length, { op, name: 'out' });
  out.set(positions);
  return positions.length;
}
