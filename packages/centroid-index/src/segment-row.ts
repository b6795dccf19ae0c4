/**
 * The segments of an index, oldest first, and its tail. Growth adds one segment, and one tail segment where the region grew. A cut drops them
 * again, so it leaves exactly what was there before. Immutable: forks share it.
 */
import { centroidBounds, type IndexedRegion, type SelectorOptions } from '@ctkvr/core';
import type { CentroidSegment } from './centroid-segment.js';
import type { Tail } from './tail.js';

/**
 * Probes look at the newest segments, with at most 3/2 times the base's centroids together. Up to twice the base's are held: after a cut,
 * probes need the segments that they looked at before.
 */
const activeShare = 3 / 2;
const heldShare = 2;

/**
 * Returns the number of centroids that the bounds on segments are counted from, when the first segment has `numFirst`. Where the number depends
 * on the region, it is the largest possible one: a first segment that is small because its text was short is not dropped sooner.
 */
export function baseCentroids(options: SelectorOptions, numFirst: number): number {
  return options.numCentroids === 0 ? centroidBounds(options).most : numFirst;
}

export class SegmentRow {
  /** All that are held; never empty. */
  readonly segments: readonly CentroidSegment[];
  /** Those that probes look at. */
  readonly active: readonly CentroidSegment[];
  /** Centroids that the bounds on segments are counted from. */
  readonly numBase: number;
  /** A cut below this many tokens is impossible: probes then looked at a segment that has been dropped since. */
  readonly knownFrom: number;
  /** As the first segment's build measured them, see volatility.ts. */
  readonly volatility: number;
  readonly similarityFloor: number;
  /** What stands for positions that are not read; null when the options say none. */
  readonly tail: Tail | null;

  constructor(
    parts: Pick<SegmentRow, 'segments' | 'numBase' | 'knownFrom' | 'volatility' | 'similarityFloor' | 'tail'>,
  ) {
    this.segments = parts.segments;
    this.numBase = parts.numBase;
    this.knownFrom = parts.knownFrom;
    this.volatility = parts.volatility;
    this.similarityFloor = parts.similarityFloor;
    this.tail = parts.tail;
    this.active = parts.segments.slice(this.#newestWithin(parts.segments, activeShare));
  }

  get newest(): CentroidSegment {
    return this.segments[this.segments.length - 1]!;
  }

  /** Indexed positions. */
  get region(): IndexedRegion {
    return { start: this.newest.start, end: this.newest.end };
  }

  /** Centroids that probes look at. */
  get numCentroids(): number {
    return this.active.reduce((sum, segment) => sum + segment.numCentroids, 0);
  }

  get sizeBytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.sizeBytes, this.tail?.sizeBytes ?? 0);
  }

  /** The segment of a centroid, and the centroid's index in it. Ids count from the first centroid that probes look at. */
  locate(centroid: number): { readonly segment: CentroidSegment; readonly place: number } {
    let place = centroid;
    const segment = this.active.find((candidate) => {
      if (place < candidate.numCentroids) return true;
      place -= candidate.numCentroids;
      return false;
    });
    if (segment === undefined) throw new RangeError(`centroid ${centroid} of ${this.numCentroids}`);
    return { segment, place };
  }

  /** With one more segment, and without the oldest where they would be too many. @param tail over the new segment's region. */
  extended(segment: CentroidSegment, tail: Tail | null): SegmentRow {
    let segments = [...this.segments, segment];
    let { knownFrom } = this;
    while (this.#newestWithin(segments, heldShare) > 0) {
      // Probes looked at the oldest segment until the first segment that replaced it was made.
      const pushedOutBy = segments.findIndex((_, i) => this.#newestWithin(segments.slice(0, i + 1), activeShare) > 0);
      knownFrom = segments[pushedOutBy]!.madeAt;
      segments = segments.slice(1);
    }
    return new SegmentRow({ ...this.#measures(), segments, knownFrom, tail });
  }

  /** The segments as they were with `length` tokens stored; null when there were none, or they have been dropped. */
  truncated(length: number): SegmentRow | null {
    const segments = this.segments.filter(({ madeAt }) => madeAt <= length);
    if (segments.length === 0 || length < this.knownFrom) return null;
    const tail = this.tail?.truncated(length) ?? null;
    return new SegmentRow({ ...this.#measures(), segments, knownFrom: this.knownFrom, tail });
  }

  #measures() {
    return { numBase: this.numBase, volatility: this.volatility, similarityFloor: this.similarityFloor };
  }

  /** Index of the oldest segment such that it and the later ones have at most `share` times numBase centroids; the last always counts. */
  #newestWithin(segments: readonly CentroidSegment[], share: number): number {
    let first = segments.length - 1;
    let total = segments[first]!.numCentroids;
    while (first > 0 && total + segments[first - 1]!.numCentroids <= share * this.numBase) {
      first--;
      total += segments[first]!.numCentroids;
    }
    return first;
  }
}
