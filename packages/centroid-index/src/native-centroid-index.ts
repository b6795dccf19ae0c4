/** The same index held by the native binary: checks arguments, translates calls. */
import {
  CtkvrError,
  checkCapacity,
  checkInteger,
  checkOptions,
  type IndexedRegion,
  type NativeCentroidIndex as NativeCentroidIndexHandle,
  type SegmentInfo,
  type SelectorOptions,
  type TailInfo,
} from '@ctkvr/core';
import type { AppendInput, CentroidIndex } from './centroid-index.js';
import { checkCandidates } from './check-candidates.js';
import { checkQuery } from './check-query.js';
import { checkPhase } from './growth.js';
import { throwIfAborted } from './in-slices.js';
import { appendChecks, methodChecks } from './method-checks.js';
import { probeBounds } from './probe-bounds.js';
import { checkAppended } from './row-checks.js';

export class NativeCentroidIndex implements CentroidIndex {
  readonly backend = 'native';
  readonly native: NativeCentroidIndexHandle;
  readonly options: SelectorOptions;
  readonly headDim: number;
  readonly groupSize: number;
  #closed = false;

  constructor(native: NativeCentroidIndexHandle, options: SelectorOptions) {
    this.native = native;
    this.options = options;
    this.headDim = native.headDim;
    this.groupSize = native.groupSize;
  }

  get numTokens(): number {
    return this.#open().numTokens;
  }

  get numCentroids(): number {
    return this.#open().numCentroids;
  }

  get region(): IndexedRegion {
    return this.#open().region;
  }

  get segments(): readonly SegmentInfo[] {
    return this.#open().blocks; // the binary's name for them, which only this line knows
  }

  get numProbed(): number {
    return probeBounds(this).numProbed;
  }

  get maxCandidates(): number {
    return probeBounds(this).maxCandidates;
  }

  get sizeBytes(): number {
    return this.#open().indexBytes;
  }

  get volatility(): number {
    return this.#open().volatility;
  }

  get similarityFloor(): number {
    return this.#open().similarityFloor;
  }

  list(centroid: number): Uint32Array {
    this.#checkCentroid(centroid, 'list');
    return this.native.list(centroid);
  }

  tail(): TailInfo | null {
    return this.#open().tail();
  }

  probe(input: {
    readonly query: Float32Array;
    readonly centroids: Uint32Array;
    readonly similarities: Float32Array;
  }): number {
    const op = 'CentroidIndex.probe';
    checkOptions(op, input, methodChecks.probe);
    this.#checkQuery(input.query, op);
    const { numProbed } = this;
    checkCapacity(input.centroids.length, numProbed, { op, name: 'centroids' });
    checkCapacity(input.similarities.length, numProbed, { op, name: 'similarities' });
    const found = this.native.probe(input.query);
    input.centroids.set(found.centroids);
    input.similarities.set(found.similarities);
    return found.centroids.length;
  }

  candidates(input: { readonly centroids: Uint32Array; readonly out: Uint32Array }): number {
    checkOptions('CentroidIndex.candidates', input, methodChecks.candidates);
    const { centroids, out } = input;
    for (const centroid of centroids) this.#checkCentroid(centroid, 'candidates');
    const union = this.#open().candidates(centroids);
    checkCapacity(out.length, union.length, { op: 'CentroidIndex.candidates', name: 'out' });
    out.set(union);
    return union.length;
  }

  widen(input: { readonly query: Float32Array; readonly candidates: Uint32Array; readonly out: Uint32Array }): number {
    const op = 'CentroidIndex.widen';
    checkOptions(op, input, methodChecks.widen);
    const { query, candidates, out } = input;
    this.#checkQuery(query, op);
    checkCandidates(candidates, this.region, op);
    const widened = this.native.widen(query, candidates);
    checkCapacity(out.length, widened.length, { op, name: 'out' });
    out.set(widened);
    return widened.length;
  }

  tailAt(input: {
    readonly query: Float32Array;
    readonly candidates: Uint32Array;
    readonly lse: Float32Array;
    readonly value: Float32Array;
  }): void {
    const op = 'CentroidIndex.tailAt';
    checkOptions(op, input, methodChecks.tailAt);
    this.#checkQuery(input.query, op);
    checkCandidates(input.candidates, this.region, op);
    checkCapacity(input.lse.length, this.groupSize, { op, name: 'lse' });
    checkCapacity(input.value.length, this.groupSize * this.headDim, { op, name: 'value' });
    const tail = this.native.tailAt(input.query, input.candidates);
    input.lse.set(tail.lse);
    input.value.set(tail.value);
  }

  async append(input: AppendInput): Promise<void> {
    const op = 'CentroidIndex.append';
    checkOptions(op, input, appendChecks);
    const { keys, values, queries, phase, signal } = input;
    const { headDim, groupSize } = this;
    checkAppended({ op, keys, values, queries, headDim, groupSize });
    checkPhase(phase, op);
    throwIfAborted(op, signal);
    await this.#open().append({ keys, values, queries, phase });
  }

  async extend(input: { readonly signal?: AbortSignal } = {}): Promise<void> {
    checkOptions('CentroidIndex.extend', input, methodChecks.extend);
    throwIfAborted('CentroidIndex.extend', input.signal);
    await this.#open().extend();
  }

  async insert(query: Float32Array): Promise<void> {
    this.#checkQuery(query, 'CentroidIndex.insert');
    await this.#open().insert(query);
  }

  truncate(length: number): void {
    checkInteger(length, { op: 'CentroidIndex.truncate', name: 'length', min: 0, max: this.numTokens });
    this.native.truncate(length);
  }

  fork(): CentroidIndex {
    return new NativeCentroidIndex(this.#open().fork(), this.options);
  }

  async save(): Promise<Uint8Array> {
    return this.#open().save();
  }

  close(): void {
    if (!this.#closed) this.native.close();
    this.#closed = true;
  }

  #checkCentroid(centroid: number, method: string): void {
    const max = this.#open().numCentroids - 1;
    checkInteger(centroid, { op: `CentroidIndex.${method}`, name: 'centroid', min: 0, max });
  }

  #checkQuery(query: Float32Array, op: string): void {
    this.#open();
    checkQuery(query, { op, groupSize: this.groupSize, headDim: this.headDim });
  }

  #open(): NativeCentroidIndexHandle {
    if (this.#closed) throw new CtkvrError('CTKVR_CLOSED', 'this CentroidIndex was closed; build another one');
    return this.native;
  }
}
