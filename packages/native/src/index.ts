export type {
  NativeCentroidIndex,
  NativeIndexBinding,
  NativeRopeBinding,
  NativeRotaryEmbedding,
} from '@ctkvr/core';
export type * from './binding.js';
export { cacheFolder } from './cache-folder.js';
export { type DeviceReport, devicesOf } from './devices.js';
export { mapNativeError } from './errors.js';
export { type FoundBinding, findBinding, loadBinding, NATIVE_PATH_VARIABLE, openBinding } from './load-binding.js';
export { type BandwidthOptions, type MemoryBandwidth, measureMemoryBandwidth } from './memory-bandwidth.js';
export { type PlatformTriple, platformTriple, platformTriples } from './platform-triple.js';
export type { ProofChild } from './proof-child.js';
export { ISA_VARIABLE, type KernelReport, type KernelTrust, type TrustOptions, trustKernels } from './trust-kernels.js';
