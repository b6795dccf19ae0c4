/** How many operations a second this machine can do: the other limit beside its memory bandwidth. */
import { CtkvrError } from '@ctkvr/core';
import { type KernelLine, type PeakLine, runKernelsExample } from './kernels-example.js';

export interface ArithmeticPeak {
  /** f32 additions and multiplications a second, in billions, of all threads together. 8-bit and bf16 products can be faster. */
  readonly gflops: number;
  /** The instruction set that reached it. */
  readonly isa: string;
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

/** The highest of the peaks among the lines; null when there is none. */
export function bestPeak(lines: readonly (PeakLine | KernelLine)[]): ArithmeticPeak | null {
  const peaks = lines.filter((line) => line.type === 'peak').sort((a, b) => b.gflops - a.gflops);
  const best = peaks[0];
  if (best === undefined) return null;
  return { gflops: Math.round(best.gflops * 10) / 10, isa: best.isa, numThreads: best.threads };
}
