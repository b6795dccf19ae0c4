/** The same index held by the native binary: translates its calls and keeps what the native tail needs to answer for a new query. */
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
import type { ResolvedBuildInput } from './build-input.js';
import type { CentroidIndex, CentroidTail } from './centroid-index.js';
import type { NativeIndex } from './native-seam.js';

export class NativeCentroidIndex implements CentroidIndex {
  readonly backend = 'native';
  readonly native: NativeIndex;
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly numCentroids: number;
  readonly options: SelectorOptions;
  readonly region: IndexedRegion;
  readonly numProbed: number;
  readonly maxCandidates: number;
  readonly #scale: number;
  /** f32 [numCentroids, groupSize, headDim]: native tails are stated at their own centroid's query. */
  readonly #queries: Float32Array;
  #closed = false;

  constructor(native: NativeIndex, input: ResolvedBuildInput) {
    this.native = native;
    this.numTokens = input.numTokens;
    this.headDim = input.headDim;
    this.groupSize = input.groupSize;
    this.numCentroids = native.numCentroids;
    this.options = input.options;
    this.region = input.region;
    this.numProbed = Math.min(input.options.numProbes, native.numCentroids);
    const numKeys = input.region.end - input.region.start;
    this.maxCandidates = Math.min(numKeys, this.numProbed * postingListLength(input.options, numKeys));
    this.#scale = input.scale;
    this.#queries = input.queries.slice();
  }

  /** Bytes inside the native index; the centroid queries kept here for `tailAt` come on top. */
  get sizeBytes(): number {
    return this.native.indexBytes;
  }

  get volatility(): number {
    return this.native.volatility;
  }

  list(centroid: number): Uint32Array {
    this.#checkCentroid(centroid, 'list');
    return this.native.list(centroid);
  }

  tail(centroid: number): CentroidTail {
    this.#checkCentroid(centroid, 'tail');
    return this.native.tail(centroid);
  }

  probe(input: {
    readonly query: Float32Array;
    readonly centroids: Uint32Array;
    readonly similarities: Float32Array;
  }): number {
    const op = 'CentroidIndex.probe';
    this.#checkQuery(input.query, op);
    checkCapacity(input.centroids.length, this.numProbed, { op, name: 'centroids' });
    checkCapacity(input.similarities.length, this.numProbed, { op, name: 'similarities' });
    const found = this.native.probe(input.query);
    input.centroids.set(found.centroids);
    input.similarities.set(found.similarities);
    return found.centroids.length;
  }

  candidates({ centroids, out }: { readonly centroids: Uint32Array; readonly out: Uint32Array }): number {
    for (const centroid of centroids) this.#checkCentroid(centroid, 'candidates');
    const union = this.native.candidates(centroids);
    checkCapacity(out.length, union.length, { op: 'CentroidIndex.candidates', name: 'out' });
    out.set(union);
    return union.length;
  }

  tailAt(input: {
    readonly centroid: number;
    readonly query: Float32Array;
    readonly lse: Float32Array;
    readonly value: Float32Array;
  }): void {
    const { centroid, query } = input;
    const { groupSize, headDim } = this;
    const op = 'CentroidIndex.tailAt';
    this.#checkCentroid(centroid, 'tailAt');
    this.#checkQuery(query, op);
    checkCapacity(input.lse.length, groupSize, { op, name: 'lse' });
    checkCapacity(input.value.length, groupSize * headDim, { op, name: 'value' });
    const tail = this.native.tail(centroid);
    input.value.set(tail.value);
    for (let head = 0; head < groupSize; head++) {
      let slope = 0;
      for (let d = head * headDim; d < (head + 1) * headDim; d++) {
        slope += (query[d]! - this.#queries[centroid * groupSize * headDim + d]!) * tail.key[d]!;
      }
      input.lse[head] = tail.lse[head]! + this.#scale * slope;
    }
  }

  close(): void {
    if (!this.#closed) this.native.close();
    this.#closed = true;
  }

  #checkCentroid(centroid: number, method: string): void {
    this.#checkOpen();
    checkInteger(centroid, { op: `CentroidIndex.${method}`, name: 'centroid', min: 0, max: this.numCentroids - 1 });
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
