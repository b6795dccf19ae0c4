export type {
  CosineByDistance,
  NativeRopeBinding,
  NativeRotaryEmbedding,
  NativeRotation,
  OverlapBySimilarity,
} from '@ctkvr/core';
export type { CosineByDistanceInput } from './cosine-by-distance.js';
export { cosineByDistance } from './cosine-by-distance.js';
export { groupCosine } from './group-cosine.js';
export type { OverlapBySimilarityInput } from './overlap-by-similarity.js';
export { overlapBySimilarity } from './overlap-by-similarity.js';
export type { OverlapCurve } from './overlap-curve.js';
export { overlapCurve } from './overlap-curve.js';
export type { RopeFrequencies } from './rope-frequencies.js';
export { dynamicNtkFactor, ropeFrequencies } from './rope-frequencies.js';
export type { ResolvedRopeScaling, RopeScaling } from './rope-scaling.js';
export { resolveRopeScaling, yarnAttentionFactor } from './rope-scaling.js';
export type { RopeOptions, RopePairing, RotateAsyncInput, RotateInput } from './rotary-embedding.js';
export { RotaryEmbedding } from './rotary-embedding.js';
