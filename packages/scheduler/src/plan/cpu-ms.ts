/** How long the CPU works on its part of attention: union, score, select, attend; and on the whole of it, probe and tail too. */
import type { MachineRates } from './machine-spec.js';

/** What a head's CPU time was measured with: see HEAD_MICROSECONDS in machine-spec.ts. */
const MEASURED_KEYS = 3500;
const MEASURED_HEAD_DIM = 128;
/** A cluster is weighed by its mean key and adds its mean value: fitted to the stage `probe` of the results that HEAD_MICROSECONDS is of. */
const KEYS_OF_CLUSTER = 2.4;

export interface CpuWork {
  /** Keys and values read. */
  readonly bytes: number;
  /** Keys scored, of all heads together. */
  readonly keys: number;
  /** Clusters weighed, of all heads together. */
  readonly clusters: number;
  readonly headDim: number;
}

/** Returns the milliseconds of all cores together: what memory allows, or arithmetic where that is slower. It grows with the keys that are scored. */
export function cpuMs(
  { bytes, keys, clusters, headDim }: CpuWork,
  rates: Pick<MachineRates, 'hostBytesPerMs' | 'hostCores' | 'cpuMicrosecondsPerHead'>,
): number {
  const heads = ((keys + KEYS_OF_CLUSTER * clusters) / MEASURED_KEYS) * (headDim / MEASURED_HEAD_DIM);
  return Math.max(bytes / rates.hostBytesPerMs, (heads * rates.cpuMicrosecondsPerHead) / rates.hostCores / 1000);
}
