/**
 * One head's index as bytes: little endian, every section at a multiple of 64, so that a file can be mapped into memory. The same format as
 * ctkvr-core's head_index/image.rs and index/sections.rs; docs/design/retrieval.md has it as a table. Keys and values are not in it.
 */
import type { SelectorOptions } from '@ctkvr/core';
import type { KeptQueries } from './kept-queries.js';
import type { SegmentRow } from './segment-row.js';

export const imageMagic = 'CTKVRIDX';
/** Raised whenever a field changes its meaning; images of other versions are refused. */
export const imageVersion = 3;
export const imageHeaderBytes = 128;
/** Of a segment's and of a tail segment's. */
export const imageRecordBytes = 64;
/** What the checksum covers begins behind it. */
export const imageCheckedFrom = 16;

export interface ImageShape {
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  readonly options: SelectorOptions;
}

/** What an image holds. */
export interface IndexImage extends ImageShape {
  /** Null when a cut left no index. */
  readonly row: SegmentRow | null;
  /** Tokens stored at the first build and at the end of each turn since, ascending; empty without an index. */
  readonly builtAt: readonly number[];
  readonly kept: KeptQueries;
}

/** The options an image has as numbers from 64 on, with the least they may be. */
export const imageOptionFields = [
  ['numSinkTokens', 0],
  ['recentWindow', 1],
  ['numCentroids', 0],
  ['centroidsPerList', 1],
  ['appendSize', 1],
  ['listLength', 0],
  ['numProbes', 1],
  ['maxSelected', 0],
] as const;
