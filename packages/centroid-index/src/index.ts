export type { NativeCentroidIndex, NativeIndexBinding, SegmentInfo, TailInfo, TailSegmentInfo } from '@ctkvr/core';
export { buildCentroidIndex } from './build-centroid-index.js';
export type { BuildCentroidIndexInput, IndexBackend } from './build-input.js';
export type { AppendInput, CentroidIndex } from './centroid-index.js';
export type { Phase } from './growth.js';
export type { LoadCentroidIndexInput } from './load-centroid-index.js';
export { loadCentroidIndex } from './load-centroid-index.js';
export type { SpreadQueriesInput } from './spread-queries.js';
export { spreadQueries } from './spread-queries.js';
