export type * from './binding.js';
export { mapNativeError } from './errors.js';
export { loadBinding, NATIVE_PATH_VARIABLE } from './load-binding.js';
export { type PlatformTriple, platformTriple, platformTriples } from './platform-triple.js';
