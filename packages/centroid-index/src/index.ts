export { buildCentroidIndex } from './build-centroid-index.js';
export type { BuildCentroidIndexInput } from './build-input.js';
export type { CentroidIndex, CentroidTail } from './centroid-index.js';
export type { NativeIndex, NativeIndexBinding, NativeRefineRules } from './native-seam.js';
