/**
 * The blocks of an index, oldest first, and its tail. Growth adds one block, and one tail segment where the region grew. A cut drops them
 * again, so it leaves exactly what was there before. Immutable: forks share it.
 */
import { centroidBounds, type IndexedRegion, type SelectorOptions } from '@ctkvr/core';
import type { CentroidBlock } from './centroid-block.js';
import type { Tail } from './tail.js';

/**
 * Probes look at the newest blocks, with at most 3/2 times the base's centroids together. Up to twice the base's are held: after a cut,
 * probes need the blocks that they looked at before.
 */
const activeShare = 3 / 2;
const heldShare = 2;

/**
 * Returns the number of centroids that the bounds on blocks are counted from, when the first block has `numFirst`. Where the number depends
 * on the region, it is the largest possible one: a first block that is small because its text was short is not dropped sooner.
 */
export function baseCentroids(options: SelectorOptions, numFirst: number): number {
  return options.numCentroids === 0 ? centroidBounds(options).most : numFirst;
}

export class BlockRow {
  /** All that are held; never empty. */
  readonly blocks: readonly CentroidBlock[];
  /** Those that probes look at. */
  readonly active: readonly CentroidBlock[];
  /** Centroids that the bounds on blocks are counted from. */
  readonly numBase: number;
  /** A cut below this many tokens is impossible: probes then looked at a block that has been dropped since. */
  readonly knownFrom: number;
  /** As the first block's build measured them, see volatility.ts. */
  readonly volatility: number;
  readonly similarityFloor: number;
  /** What stands for positions that are not read; null when the options say none. */
  readonly tail: Tail | null;

  constructor(parts: Pick<BlockRow, 'blocks' | 'numBase' | 'knownFrom' | 'volatility' | 'similarityFloor' | 'tail'>) {
    this.blocks = parts.blocks;
    this.numBase = parts.numBase;
    this.knownFrom = parts.knownFrom;
    this.volatility = parts.volatility;
    this.similarityFloor = parts.similarityFloor;
    this.tail = parts.tail;
    this.active = parts.blocks.slice(this.#newestWithin(parts.blocks, activeShare));
  }

  get newest(): CentroidBlock {
    return this.blocks[this.blocks.length - 1]!;
  }

  /** Indexed positions. */
  get region(): IndexedRegion {
    return { start: this.newest.start, end: this.newest.end };
  }

  /** Centroids that probes look at. */
  get numCentroids(): number {
    return this.active.reduce((sum, block) => sum + block.numCentroids, 0);
  }

  get sizeBytes(): number {
    return this.blocks.reduce((sum, block) => sum + block.sizeBytes, this.tail?.sizeBytes ?? 0);
  }

  /** The block of a centroid, and the centroid's index in it. Ids count from the first centroid that probes look at. */
  locate(centroid: number): { readonly block: CentroidBlock; readonly place: number } {
    let place = centroid;
    const block = this.active.find((candidate) => {
      if (place < candidate.numCentroids) return true;
      place -= candidate.numCentroids;
      return false;
    });
    if (block === undefined) throw new RangeError(`centroid ${centroid} of ${this.numCentroids}`);
    return { block, place };
  }

  /** With one more block, and without the oldest where they would be too many. @param tail over the new block's region. */
  extended(block: CentroidBlock, tail: Tail | null): BlockRow {
    let blocks = [...this.blocks, block];
    let { knownFrom } = this;
    while (this.#newestWithin(blocks, heldShare) > 0) {
      // Probes looked at the oldest block until the first block that replaced it was made.
      const pushedOutBy = blocks.findIndex((_, i) => this.#newestWithin(blocks.slice(0, i + 1), activeShare) > 0);
      knownFrom = blocks[pushedOutBy]!.madeAt;
      blocks = blocks.slice(1);
    }
    return new BlockRow({ ...this.#measures(), blocks, knownFrom, tail });
  }

  /** The blocks as they were with `length` tokens stored; null when there were none, or they have been dropped. */
  truncated(length: number): BlockRow | null {
    const blocks = this.blocks.filter(({ madeAt }) => madeAt <= length);
    if (blocks.length === 0 || length < this.knownFrom) return null;
    const tail = this.tail?.truncated(length) ?? null;
    return new BlockRow({ ...this.#measures(), blocks, knownFrom: this.knownFrom, tail });
  }

  #measures() {
    return { numBase: this.numBase, volatility: this.volatility, similarityFloor: this.similarityFloor };
  }

  /** Index of the oldest block such that it and the later ones have at most `share` times numBase centroids; the last always counts. */
  #newestWithin(blocks: readonly CentroidBlock[], share: number): number {
    let first = blocks.length - 1;
    let total = blocks[first]!.numCentroids;
    while (first > 0 && total + blocks[first - 1]!.numCentroids <= share * this.numBase) {
      first--;
      total += blocks[first]!.numCentroids;
    }
    return first;
  }
}
