/** What a figure was measured on; stands in every result. */
import { execFile } from 'node:child_process';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { loadBinding, type MemoryBandwidth, measureMemoryBandwidth } from '@ctkvr/native';
import { type ArithmeticPeak, measureArithmeticPeak } from './arithmetic-peak.js';

export interface Machine {
  /** As the operating system names it. */
  readonly cpu: string;
  /** Logical processors this process may use. */
  readonly cores: number;
  /** Threads that really run at once: affinity and cgroup quota counted. */
  readonly usableThreads: number;
  /** Kernel set of ctkvr-core that was chosen. */
  readonly isa: string;
  /** CPU features that ggml uses. */
  readonly ggmlFeatures: readonly string[];
  readonly memory: {
    readonly totalBytes: number;
    /** Measured, decimal GB/s, all usable threads reading. */
    readonly bandwidthGBps: number;
  };
  /** Measured, all usable threads; null where it cannot be (no cargo, no checkout). */
  readonly arithmetic: ArithmeticPeak | null;
  /** Mean number of runnable threads in the minute before the run; figures of a busy machine mean little. 0 on Windows. */
  readonly loadAverage: number;
  readonly os: string;
  readonly node: string;
}

/** Measures for seconds; the first time in a checkout, cargo builds something. */
export async function describeMachine(): Promise<Machine> {
  const loadAverage = Math.round((loadavg()[0] ?? 0) * 100) / 100;
  const build = loadBinding().buildInfo();
  const bandwidth: MemoryBandwidth = await measureMemoryBandwidth(build.numUsableThreads);
  return {
    cpu: cpus()[0]?.model.trim() ?? process.arch,
    cores: availableParallelism(),
    usableThreads: build.numUsableThreads,
    isa: build.isa,
    ggmlFeatures: build.ggmlFeatures,
    memory: { totalBytes: totalmem(), bandwidthGBps: Math.round(bandwidth.gigabytesPerSecond * 10) / 10 },
    arithmetic: await measureArithmeticPeak(build.numUsableThreads),
    loadAverage,
    os: `${process.platform} ${process.arch} ${release()}`,
    node: process.version,
  };
}

/** Returns the commit this code runs from, with `+` when files differ from it; null outside a git checkout. */
export async function currentCommit(folder: string = import.meta.dirname): Promise<string | null> {
  const git = async (...args: string[]) => (await promisify(execFile)('git', args, { cwd: folder })).stdout.trim();
  try {
    const [commit, changes] = await Promise.all([git('rev-parse', '--short=12', 'HEAD'), git('status', '--porcelain')]);
    return changes === '' ? commit : `${commit}+`;
  } catch {
    return null; // no git here, or not a checkout: an installed package
  }
}
