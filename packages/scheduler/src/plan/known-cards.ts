/** Cards by name. The least memory first. */
import type { DeviceSpec } from './machine-spec.js';

/**
 * Memory and bandwidth as public lists of specifications give them (the makers' data sheets were not compared); of data centre cards the
 * SXM variants, where there are several. Cards of compute capability 8.0 and later, for which kernels are compiled. Reached: what reads of
 * large buffers are assumed to give; of the L4, RTX 4090, A100 80GB, H100 and H200 as in the project's design of the device path, of the
 * others the usual share.
 */
export const knownCards: readonly DeviceSpec[] = [
  card('RTX 4080', 16, 717),
  card('L4', 24, 300, 270),
  card('A10', 24, 600),
  card('RTX 3090', 24, 936),
  card('RTX 4090', 24, 1008, 920),
  card('RTX 5090', 32, 1792),
  card('A100 40GB', 40, 1555),
  card('L40S', 48, 864),
  card('A100 80GB', 80, 2039, 1750),
  card('H100 80GB', 80, 3350, 2900),
  card('H200', 141, 4800, 4200),
  card('B200', 180, 8000),
];

function card(name: string, gigabytes: number, gigabytesPerSecond: number, reached?: number): DeviceSpec {
  const reachedGigabytesPerSecond = reached === undefined ? {} : { reachedGigabytesPerSecond: reached };
  return { name, memoryBytes: gigabytes * 1e9, gigabytesPerSecond, ...reachedGigabytesPerSecond };
}
