export type { CosineByDistance } from './cosine-by-distance.js';
export { cosineByDistance } from './cosine-by-distance.js';
export { groupCosine } from './group-cosine.js';
export type { OverlapBySimilarity } from './overlap-by-similarity.js';
export { overlapBySimilarity } from './overlap-by-similarity.js';
export type { RopeFrequencies, RopeScaling } from './rope-frequencies.js';
export { dynamicNtkFactor, ropeFrequencies } from './rope-frequencies.js';
export type { RopeOptions, RopePairing, RotateInput } from './rotary-embedding.js';
export { RotaryEmbedding } from './rotary-embedding.js';
