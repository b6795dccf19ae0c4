/** The index in plain TypeScript: the definition that every other backend is tested against. */
import {
  type BlockInfo,
  CtkvrError,
  checkCapacity,
  checkFinite,
  checkInteger,
  checkLength,
  checkOption,
  checkOptions,
  type IndexedRegion,
  indexedRegion,
  type SelectorOptions,
  type TailInfo,
  takes,
} from '@ctkvr/core';
import type { ResolvedBuildInput } from './build-input.js';
import type { AppendInput, CentroidIndex } from './centroid-index.js';
import { checkCandidates } from './check-candidates.js';
import { encodeIndexImage } from './encode-index-image.js';
import { checkPhase } from './growth.js';
import { inSlices } from './in-slices.js';
import { IndexGrower, type IndexState } from './index-grower.js';
import type { IndexImage } from './index-image.js';
import { KeptQueries } from './kept-queries.js';
import { markedPositions } from './marked-positions.js';
import { appendChecks, methodChecks } from './method-checks.js';
import { nearestCentroids } from './nearest-centroids.js';
import { PagedRows } from './paged-rows.js';
import { probeBounds } from './probe-bounds.js';
import { checkAppended } from './row-checks.js';
import { pickSpreadQueries } from './spread-queries.js';

export class ReferenceCentroidIndex implements CentroidIndex {
  readonly backend = 'reference';
  readonly native = null;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
  readonly #keys: PagedRows;
  readonly #values: PagedRows;
  readonly #grower: IndexGrower;
  #state: IndexState;
  #busy = false;
  #closed = false;

  private constructor(
    shape: { readonly headDim: number; readonly groupSize: number; readonly options: SelectorOptions },
    rows: { readonly keys: PagedRows; readonly values: PagedRows },
    state: IndexState,
  ) {
    this.headDim = shape.headDim;
    this.groupSize = shape.groupSize;
    this.options = shape.options;
    this.#keys = rows.keys;
    this.#values = rows.values;
    this.#grower = new IndexGrower({
      ...rows,
      headDim: shape.headDim,
      groupSize: shape.groupSize,
      options: shape.options,
    });
    this.#state = state;
  }

  /** Builds the tail, then list after list, then measures the volatility. Yields at least once a list. */
  static *build(input: ResolvedBuildInput): Generator<void, ReferenceCentroidIndex> {
    const { headDim, groupSize, options } = input;
    const rows = storedRows(input, headDim);
    const numTokens = rows.keys.length;
    const state: IndexState = { numTokens, row: null, builtAt: [], kept: KeptQueries.none(groupSize * headDim) };
    const index = new ReferenceCentroidIndex(input, rows, state);
    const rowLength = groupSize * headDim;
    const numQueries = input.queries.length / rowLength;
    const count = index.#grower.mostCentroids(indexedRegion(numTokens, options));
    const queries = input.queries.slice(Math.max(0, numQueries - count) * rowLength);
    if (options.centroids === 'spread') {
      const chosen = yield* pickSpreadQueries({ ...input, count });
      chosen.forEach((from, c) => {
        queries.set(input.queries.subarray(from * rowLength, (from + 1) * rowLength), c * rowLength);
      });
    }
    index.#state = { ...state, row: yield* index.#grower.firstRow(state, queries), builtAt: [numTokens] };
    return index;
  }

  /** Restores the index of an image over its keys and values. */
  static load(
    image: IndexImage,
    { keys, values }: { readonly keys: Float32Array; readonly values: Float32Array },
  ): ReferenceCentroidIndex {
    const { numTokens, row, builtAt, kept } = image;
    return new ReferenceCentroidIndex(image, storedRows({ keys, values }, image.headDim), {
      numTokens,
      row,
      builtAt,
      kept,
    });
  }

  get numTokens(): number {
    return this.#open().numTokens;
  }

  get numCentroids(): number {
    return this.#open().row?.numCentroids ?? 0;
  }

  get region(): IndexedRegion {
    const { row, numTokens } = this.#open();
    const start = Math.min(this.options.numSinkTokens, numTokens);
    return row?.region ?? { start, end: start };
  }

  get blocks(): readonly BlockInfo[] {
    const active = this.#open().row?.active ?? [];
    return active.map(({ end, madeAt, numCentroids }) => ({ end, madeAt, numCentroids }));
  }

  get numProbed(): number {
    return probeBounds(this).numProbed;
  }

  get maxCandidates(): number {
    return probeBounds(this).maxCandidates;
  }

  get sizeBytes(): number {
    const { row, kept } = this.#open();
    return (row?.sizeBytes ?? 0) + kept.sizeBytes;
  }

  get volatility(): number {
    return this.#open().row?.volatility ?? 0;
  }

  get similarityFloor(): number {
    return this.#open().row?.similarityFloor ?? -1;
  }

  list(centroid: number): Uint32Array {
    const { block, list } = this.#locate(centroid, 'list');
    return block.lists[list]!.slice();
  }

  tail(): TailInfo | null {
    const tail = this.#open().row?.tail ?? null;
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
    const { row } = this.#open();
    if (row === null) return 0;
    const nearest = nearestCentroids({ blocks: row.active, query, numProbes: this.options.numProbes });
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
      const { block, list } = this.#locate(centroid, 'candidates');
      for (const position of block.lists[list]!) marks[position - start] = 1;
      if (rank === 0) marks.fill(1, block.end - start);
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
    const weighed = this.#open().row?.tail?.weigh({ query, taken: candidates });
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
    this.#open().row?.tail?.weigh({ query, taken: candidates }).rest({ lse, value });
  }

  async append(input: AppendInput): Promise<void> {
    const op = 'CentroidIndex.append';
    checkOptions(op, input, appendChecks);
    const { headDim, groupSize } = this;
    this.#open();
    const numNew = checkAppended({ ...input, op, headDim, groupSize });
    checkPhase(input.phase, op);
    await this.#change(this.#grower.append(this.#open(), input, numNew), op, input.signal);
  }

  async extend(input: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const op = 'CentroidIndex.extend';
    checkOptions(op, input, methodChecks.extend);
    await this.#change(this.#grower.extend(this.#open()), op, input.signal);
  }

  async insert(query: Float32Array): Promise<void> {
    const op = 'CentroidIndex.insert';
    this.#checkQuery(query, op);
    const state = this.#open();
    if (state.row === null) {
      const expected = 'called on an index that has blocks (extend makes some)';
      throw new CtkvrError('CTKVR_INVALID_OPTION', `insert must be ${expected}, got none`, {
        fields: { option: 'insert', expected, actual: 'none' },
      });
    }
    await this.#change(this.#grower.insert(state, state.row, query.slice()), op, undefined);
  }

  truncate(length: number): void {
    const { numTokens, row, builtAt, kept } = this.#open();
    checkInteger(length, { op: 'CentroidIndex.truncate', name: 'length', min: 0, max: numTokens });
    if (length === numTokens) return;
    this.#keys.truncate(length);
    this.#values.truncate(length);
    const cut = row?.truncated(length) ?? null;
    this.#state = {
      numTokens: length,
      row: cut,
      builtAt: cut === null ? [] : builtAt.filter((at) => at <= length),
      kept: kept.of({ start: 0, end: cut === null ? 0 : length, most: Number.POSITIVE_INFINITY }),
    };
  }

  fork(): CentroidIndex {
    const state = this.#open();
    return new ReferenceCentroidIndex(this, { keys: this.#keys.fork(), values: this.#values.fork() }, state);
  }

  async save(): Promise<Uint8Array> {
    const { headDim, groupSize, options } = this;
    return encodeIndexImage({ ...this.#open(), headDim, groupSize, options });
  }

  close(): void {
    this.#closed = true;
    if (!this.#busy) this.#free();
  }

  #free(): void {
    this.#keys.truncate(0);
    this.#values.truncate(0);
    this.#state = { ...this.#state, row: null, kept: KeptQueries.none(0) };
  }

  /** Runs work that makes another state, refusing other calls meanwhile. When it fails, keys and state are as before. */
  async #change(work: Generator<void, IndexState>, op: string, signal: AbortSignal | undefined): Promise<void> {
    this.#open();
    this.#busy = true;
    try {
      this.#state = await inSlices(work, op, signal);
    } catch (error) {
      this.#keys.truncate(this.#state.numTokens);
      this.#values.truncate(this.#state.numTokens);
      throw error;
    } finally {
      this.#busy = false;
      if (this.#closed) this.#free();
    }
  }

  #locate(centroid: number, method: string) {
    const { row } = this.#open();
    const max = (row?.numCentroids ?? 0) - 1;
    checkInteger(centroid, { op: `CentroidIndex.${method}`, name: 'centroid', min: 0, max });
    const { block, place } = row!.locate(centroid);
    return { block, list: block.listOf(place) };
  }

  #checkQuery(query: Float32Array, op: string): void {
    this.#open();
    checkOption(op, 'query', query, takes.float32);
    const { groupSize, headDim } = this;
    const shape = `[groupSize, headDim] = [${groupSize}, ${headDim}]`;
    checkLength(query.length, groupSize * headDim, { op, name: 'query', shape });
    checkFinite(query, { op, name: 'query' });
  }

  #open(): IndexState {
    if (this.#closed) throw new CtkvrError('CTKVR_CLOSED', 'this CentroidIndex was closed; build another one');
    if (this.#busy) {
      throw new CtkvrError('CTKVR_BUSY', 'the index is being changed; wait for that to end, or use a fork made before');
    }
    return this.#state;
  }
}

/** Writes positions and returns how many. */
function writePositions(positions: Uint32Array, out: Uint32Array, op: string): number {
  checkCapacity(out.length, positions.length, { op, name: 'out' });
  out.set(positions);
  return positions.length;
}

function storedRows(of: { readonly keys: Float32Array; readonly values: Float32Array }, headDim: number) {
  const keys = new PagedRows(headDim);
  const values = new PagedRows(headDim);
  keys.append(of.keys);
  values.append(of.values);
  return { keys, values };
}
