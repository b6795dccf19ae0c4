/** The index in plain TypeScript: the definition that every other backend is tested against. */
import {
  CtkvrError,
  checkCapacity,
  checkFinite,
  checkInteger,
  checkLength,
  type IndexedRegion,
  postingListLength,
  type SelectorOptions,
} from '@ctkvr/core';
import { centroidBuilder } from './build-centroid.js';
import type { ResolvedBuildInput } from './build-input.js';
import type { CentroidIndex, CentroidTail } from './centroid-index.js';
import { highestScores } from './highest-scores.js';
import { Int8Rows } from './int8-rows.js';
import { unitVectors } from './unit-vectors.js';
import { measureVolatility } from './volatility.js';

/** The coarse step of a probe keeps this many times numProbes centroids for the fine step. */
const coarseFactor = 8;

export class ReferenceCentroidIndex implements CentroidIndex {
  readonly backend = 'reference';
  readonly native = null;
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly numCentroids: number;
  readonly options: SelectorOptions;
  readonly region: IndexedRegion;
  readonly numProbed: number;
  readonly maxCandidates: number;
  readonly #scale: number;
  #volatility = 0;
  #lists: Uint32Array[] = [];
  /** [numCentroids, headDim] */
  readonly #pooled: Int8Rows;
  /** [numCentroids * groupSize, headDim] each */
  readonly #unit: Int8Rows;
  readonly #valueTails: Int8Rows;
  readonly #keyTails: Int8Rows;
  /** f32 [numCentroids, groupSize] */
  readonly #lseTails: Float32Array;
  /** f32 [numCentroids, groupSize]: lseTail - scale q.keyTail, so that no copy of q is kept. */
  readonly #bases: Float32Array;
  // Scratch of probe and candidates, so that a call allocates little.
  readonly #queryUnit: Float32Array;
  readonly #queryPooled: Float32Array;
  readonly #coarse: Float64Array;
  readonly #marks: Uint8Array;
  #closed = false;

  /** An index with room for all centroids; each is filled by `addCentroid` from `centroidBuilder`. */
  constructor(input: ResolvedBuildInput) {
    const { numTokens, headDim, groupSize, numCentroids, options, region, scale } = input;
    this.numTokens = numTokens;
    this.headDim = headDim;
    this.groupSize = groupSize;
    this.numCentroids = numCentroids;
    this.options = options;
    this.region = region;
    this.numProbed = Math.min(options.numProbes, numCentroids);
    const numKeys = region.end - region.start;
    this.maxCandidates = Math.min(numKeys, this.numProbed * postingListLength(options, numKeys));
    this.#scale = scale;
    const rows = numCentroids * groupSize;
    this.#pooled = new Int8Rows(numCentroids, headDim);
    this.#unit = new Int8Rows(rows, headDim);
    const tailRows = options.tail ? rows : 0;
    this.#valueTails = new Int8Rows(tailRows, headDim);
    this.#keyTails = new Int8Rows(tailRows, headDim);
    this.#lseTails = new Float32Array(tailRows);
    this.#bases = new Float32Array(tailRows);
    this.#queryUnit = new Float32Array(groupSize * headDim);
    this.#queryPooled = new Float32Array(headDim);
    this.#coarse = new Float64Array(numCentroids);
    this.#marks = new Uint8Array(numKeys);
  }

  /** Builds centroids one by one, then measures the volatility; between two yields lie O(numTokens * groupSize * headDim). */
  static *build(input: ResolvedBuildInput): Generator<void, ReferenceCentroidIndex> {
    const index = new ReferenceCentroidIndex(input);
    const buildCentroid = centroidBuilder(input);
    for (let centroid = 0; centroid < input.numCentroids; centroid++) {
      index.#add(centroid, input, buildCentroid(centroid));
      yield;
    }
    const out = new Uint32Array(index.maxCandidates);
    const candidatesAmong = (query: Float32Array, numCentroids: number) => {
      const centroids = Uint32Array.from(index.#nearest(query, numCentroids), ({ centroid }) => centroid);
      return out.subarray(0, index.candidates({ centroids, out }));
    };
    index.#volatility = yield* measureVolatility({ input, candidatesAmong });
    return index;
  }

  get volatility(): number {
    return this.#volatility;
  }

  #add(centroid: number, { queries }: ResolvedBuildInput, built: ReturnType<ReturnType<typeof centroidBuilder>>): void {
    const { headDim, groupSize } = this;
    this.#lists.push(built.list);
    const rowLength = groupSize * headDim;
    const query = queries.subarray(centroid * rowLength, (centroid + 1) * rowLength);
    unitVectors({ query, headDim, unit: this.#queryUnit, pooled: this.#queryPooled });
    this.#pooled.store(centroid, this.#queryPooled);
    for (let head = 0; head < groupSize; head++) {
      const row = centroid * groupSize + head;
      const slice = (vectors: Float32Array) => vectors.subarray(head * headDim, (head + 1) * headDim);
      this.#unit.store(row, slice(this.#queryUnit));
      if (!this.options.tail) continue;
      this.#valueTails.store(row, slice(built.valueTail));
      this.#keyTails.store(row, slice(built.keyTail));
      this.#lseTails[row] = built.lseTail[head]!;
      this.#bases[row] = built.lseTail[head]! - this.#scale * this.#keyTails.dot(row, slice(query));
    }
  }

  get sizeBytes(): number {
    const vectors = [this.#pooled, this.#unit, this.#valueTails, this.#keyTails];
    const lists = this.#lists.reduce((sum, list) => sum + list.byteLength, 0);
    return (
      lists +
      vectors.reduce((sum, rows) => sum + rows.sizeBytes, 0) +
      this.#lseTails.byteLength +
      this.#bases.byteLength
    );
  }

  list(centroid: number): Uint32Array {
    return this.#list(centroid, 'list').slice();
  }

  tail(centroid: number): CentroidTail {
    this.#list(centroid, 'tail');
    const { groupSize, headDim } = this;
    const value = new Float32Array(groupSize * headDim);
    const key = new Float32Array(groupSize * headDim);
    const first = centroid * groupSize;
    if (!this.options.tail) return { lse: new Float32Array(groupSize).fill(Number.NEGATIVE_INFINITY), value, key };
    for (let head = 0; head < groupSize; head++) {
      this.#valueTails.load(first + head, value, head * headDim);
      this.#keyTails.load(first + head, key, head * headDim);
    }
    return { lse: this.#lseTails.slice(first, first + groupSize), value, key };
  }

  probe(input: {
    readonly query: Float32Array;
    readonly centroids: Uint32Array;
    readonly similarities: Float32Array;
  }): number {
    const { query, centroids, similarities } = input;
    const op = 'CentroidIndex.probe';
    this.#checkQuery(query, op);
    checkCapacity(centroids.length, this.numProbed, { op, name: 'centroids' });
    checkCapacity(similarities.length, this.numProbed, { op, name: 'similarities' });
    const nearest = this.#nearest(query, this.numCentroids);
    nearest.forEach(({ centroid, similarity }, i) => {
      centroids[i] = centroid;
      similarities[i] = similarity;
    });
    return nearest.length;
  }

  /** The numProbed nearest of the first `numCentroids` centroids, best first. */
  #nearest(query: Float32Array, numCentroids: number): { readonly centroid: number; readonly similarity: number }[] {
    const { groupSize, headDim } = this;
    unitVectors({ query, headDim, unit: this.#queryUnit, pooled: this.#queryPooled });
    const coarse = this.#coarse.subarray(0, numCentroids);
    for (let c = 0; c < numCentroids; c++) coarse[c] = this.#pooled.dot(c, this.#queryPooled);
    const near = highestScores(coarse, Math.min(numCentroids, coarseFactor * this.numProbed));
    const similarity = new Float64Array(near.length);
    near.forEach((c, i) => {
      let sum = 0;
      for (let head = 0; head < groupSize; head++) {
        sum += this.#unit.dot(c * groupSize + head, this.#queryUnit, head * headDim);
      }
      similarity[i] = sum / groupSize;
    });
    // `near` ascends, so the smaller place is the smaller id.
    const best = highestScores(similarity, this.numProbed).sort((a, b) => similarity[b]! - similarity[a]! || a - b);
    return Array.from(best, (place) => ({ centroid: near[place]!, similarity: similarity[place]! }));
  }

  candidates({ centroids, out }: { readonly centroids: Uint32Array; readonly out: Uint32Array }): number {
    const { start } = this.region;
    this.#marks.fill(0);
    for (const centroid of centroids) {
      for (const position of this.#list(centroid, 'candidates')) this.#marks[position - start] = 1;
    }
    let count = 0;
    for (let j = 0; j < this.#marks.length; j++) {
      if (this.#marks[j] === 0) continue;
      if (count < out.length) out[count] = start + j;
      count++;
    }
    checkCapacity(out.length, count, { op: 'CentroidIndex.candidates', name: 'out' });
    return count;
  }

  tailAt(input: {
    readonly centroid: number;
    readonly query: Float32Array;
    readonly lse: Float32Array;
    readonly value: Float32Array;
  }): void {
    const { centroid, query, lse, value } = input;
    const op = 'CentroidIndex.tailAt';
    this.#list(centroid, 'tailAt');
    this.#checkQuery(query, op);
    checkCapacity(lse.length, this.groupSize, { op, name: 'lse' });
    checkCapacity(value.length, this.groupSize * this.headDim, { op, name: 'value' });
    lse.fill(Number.NEGATIVE_INFINITY, 0, this.groupSize);
    value.fill(0, 0, this.groupSize * this.headDim);
    if (!this.options.tail) return;
    for (let head = 0; head < this.groupSize; head++) {
      const row = centroid * this.groupSize + head;
      lse[head] = this.#bases[row]! + this.#scale * this.#keyTails.dot(row, query, head * this.headDim);
      this.#valueTails.load(row, value, head * this.headDim);
    }
  }

  close(): void {
    this.#closed = true;
    this.#lists = [];
  }

  #list(centroid: number, method: string): Uint32Array {
    this.#checkOpen();
    checkInteger(centroid, { op: `CentroidIndex.${method}`, name: 'centroid', min: 0, max: this.numCentroids - 1 });
    return this.#lists[centroid]!;
  }

  #checkQuery(query: Float32Array, op: string): void {
    this.#checkOpen();
    const { groupSize, headDim } = this;
    const shape = `[groupSize, headDim] = [${groupSize}, ${headDim}]`;
    checkLength(query.length, groupSize * headDim, { op, name: 'query', shape });
    checkFinite(query, { op, name: 'query' });
  }

  #checkOpen(): void {
    if (this.#closed) throw new CtkvrError('CTKVR_CLOSED', 'this CentroidIndex was closed; build another one');
  }
}
