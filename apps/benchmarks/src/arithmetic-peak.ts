/** How many operations a second this machine can do: the other limit beside its memory bandwidth. */
import { CtkvrError } from '@ctkvr/core';
import { significant } from '@ctkvr/evaluation';
import { type KernelLine, type PeakLine, type ProductType, runKernelsExample } from './kernels-example.js';

export interface ArithmeticPeak {
  /** f32 additions and multiplications a second, in billions, of all threads together. 8-bit products can be faster. */
  readonly gflops: number;
  /** The instruction set that reached it. */
  readonly isa: string;
  /** The same of bf16 values, for CPUs that multiply those; null for others. */
  readonly bf16Gflops: number | null;
  readonly numThreads: number;
}

/** Takes a second, and the first time as long as cargo needs to build; null where cargo or the checkout is missing. */
export async function measureArithmeticPeak(numThreads: number): Promise<ArithmeticPeak | null> {
  try {
    return bestPeak(await runKernelsExample(['--peak', '--threads', String(numThreads)]));
  } catch (error) {
    if (CtkvrError.isInstance(error)) return null;
    throw error;
  }
}

/** The highest of the peaks among the lines; null when there is none of f32. */
export function bestPeak(lines: readonly (PeakLine | KernelLine)[]): ArithmeticPeak | null {
  const best = highestPeak(lines, 'f32');
  if (best === null) return null;
  const bf16 = highestPeak(lines, 'bf16');
  return {
    gflops: significant(best.gflops),
    isa: best.isa,
    bf16Gflops: bf16 === null ? null : significant(bf16.gflops),
    numThreads: best.threads,
  };
}

/** The highest peak of one type of products; null when there is none. */
export function highestPeak(lines: readonly (PeakLine | KernelLine)[], dtype: ProductType): PeakLine | null {
  const peaks = lines.filter((line) => line.type === 'peak').filter((peak) => peak.dtype === dtype);
  return peaks.sort((a, b) => b.gflops - a.gflops)[0] ?? null;
}
