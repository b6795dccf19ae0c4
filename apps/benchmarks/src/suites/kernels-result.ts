/** What the suite `kernels` found. Times are milliseconds. */
import type { ProductType } from '../kernels-example.js';
import type { ShareOfLimit } from './limits.js';
import type { RunHead } from './result-head.js';

export interface KernelsResult extends RunHead {
  readonly suite: 'kernels';
  /** That work at once, each on data of its own. */
  readonly threads: number;
  readonly rounds: number;
  /** Memory bandwidth of as many threads, decimal GB/s. */
  readonly bandwidthGBps: number;
  /** Operations a second of as many threads, in billions, by kernel set, of what is multiplied by kernels of its own. */
  readonly peaks: readonly { readonly isa: string; readonly dtype: ProductType; readonly gflops: number }[];
  readonly rows: readonly KernelRow[];
}

export interface KernelRow {
  readonly kernel: string;
  /** Which rows of keys or values; null for kernels over something else. */
  readonly rows: 'contiguous' | 'scattered' | null;
  /** `memory`: far beyond the caches. */
  readonly data: 'cache' | 'memory';
  readonly dtype: ProductType;
  readonly isa: string;
  readonly medianMs: number;
  readonly p10: number;
  readonly p90: number;
  readonly numSamples: number;
  /** What is used of what is read, decimal. */
  readonly gigabytesPerSecond: number;
  /** null where operations are not what is counted. */
  readonly gflops: number | null;
  readonly shareOfLimit: number | null;
  readonly limit: ShareOfLimit['limit'] | null;
}
