/**
 * Centroids made at one time over one region: neighbouring ones share a posting list. A segment never changes; an index is a row of
 * them (segment-row.ts), and forks share them.
 */
import type { Int8Rows } from './int8-rows.js';

export class CentroidSegment {
  /** Lists are over positions [start, end). */
  readonly start: number;
  readonly end: number;
  /** Tokens stored when it was made: cutting the sequence shorter drops it. */
  readonly madeAt: number;
  /** Queries of tokens before this one no longer become centroids. */
  readonly grownAt: number;
  readonly groupSize: number;
  readonly headDim: number;
  readonly centroidsPerList: number;
  /** [numCentroids, headDim]: normalised sum of the group's normalised queries. */
  readonly pooled: Int8Rows;
  /** Positions of the sequence, ascending; the last list may belong to fewer centroids than the others. */
  readonly lists: readonly Uint32Array[];

  constructor(parts: {
    readonly start: number;
    readonly end: number;
    readonly madeAt: number;
    readonly grownAt: number;
    readonly groupSize: number;
    readonly headDim: number;
    readonly centroidsPerList: number;
    readonly pooled: Int8Rows;
    readonly lists: readonly Uint32Array[];
  }) {
    this.start = parts.start;
    this.end = parts.end;
    this.madeAt = parts.madeAt;
    this.grownAt = parts.grownAt;
    this.groupSize = parts.groupSize;
    this.headDim = parts.headDim;
    this.centroidsPerList = parts.centroidsPerList;
    this.pooled = parts.pooled;
    this.lists = parts.lists;
  }

  get numCentroids(): number {
    return this.pooled.scales.length;
  }

  get sizeBytes(): number {
    const lists = this.lists.reduce((sum, list) => sum + list.byteLength, 0);
    return lists + this.pooled.sizeBytes;
  }

  /** The list of a centroid. */
  listOf(centroid: number): number {
    return Math.floor(centroid / this.centroidsPerList);
  }
}
