/**
 * The kernels alone, with every instruction set of this machine, on data inside the caches and far beyond them: how near each comes to
 * what memory and arithmetic allow.
 */
import { countOf } from '@ctkvr/core';
import { significant } from '@ctkvr/evaluation';
import { measureMemoryBandwidth } from '@ctkvr/native';
import { highestPeak } from '../arithmetic-peak.js';
import { type KernelLine, type PeakLine, type ProductType, runKernelsExample } from '../kernels-example.js';
import type { KernelRow, KernelsResult } from './kernels-result.js';
import { type Limits, shareOfLimit } from './limits.js';

export type KernelsFindings = Pick<KernelsResult, 'bandwidthGBps' | 'peaks' | 'rows'>;

/** @throws {CtkvrError} what `runKernelsExample` throws. */
export async function kernelsSuite(options: {
  readonly threads: number;
  readonly rounds: number;
  readonly onProgress: (line: string) => void;
}): Promise<KernelsFindings> {
  const { threads, rounds, onProgress } = options;
  onProgress(`measuring memory bandwidth and kernels on ${countOf(threads, 'thread')}; cargo builds them first`);
  const { gigabytesPerSecond } = await measureMemoryBandwidth(threads);
  const lines = await runKernelsExample(['--threads', String(threads), '--rounds', String(rounds)]);
  return toKernelFindings(lines, significant(gigabytesPerSecond));
}

/** @param bandwidthGBps of as many threads as the lines are of. */
export function toKernelFindings(lines: readonly (PeakLine | KernelLine)[], bandwidthGBps: number): KernelsFindings {
  const limitsOf = (dtype: ProductType): Limits => {
    const peak = highestPeak(lines, dtype);
    return { bandwidthGBps, gflops: peak === null ? null : significant(peak.gflops) };
  };
  return {
    bandwidthGBps,
    peaks: lines
      .filter((line) => line.type === 'peak')
      .map(({ isa, dtype, gflops }) => ({ isa, dtype, gflops: significant(gflops) })),
    rows: lines.filter((line) => line.type === 'kernel').map((line) => toRow(line, limitsOf(line.dtype))),
  };
}

function toRow(line: KernelLine, limits: Limits): KernelRow {
  const { kernel, rows, data, dtype, isa, bytes, flops, medianMs, numSamples } = line;
  // Caches are not measured: what lies in them is bound by arithmetic alone, as far as we know.
  const share = shareOfLimit({ bytes: data === 'memory' ? bytes : 0, operations: flops }, medianMs, limits);
  return {
    kernel,
    rows,
    data,
    dtype,
    isa,
    medianMs: significant(medianMs),
    p10: significant(line.p10Ms),
    p90: significant(line.p90Ms),
    numSamples,
    gigabytesPerSecond: significant(bytes / (medianMs * 1e6)),
    gflops: flops === 0 ? null : significant(flops / (medianMs * 1e6)),
    shareOfLimit: share?.shareOfLimit ?? null,
    limit: share?.limit ?? null,
  };
}
