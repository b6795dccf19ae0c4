/** Examines the machine; measurements run one after another, so that they do not disturb each other. What is wrong is in the result, never thrown. */
import { readFile, stat } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, loadavg, release, totalmem } from 'node:os';
import { CtkvrError } from '@ctkvr/core';
import { askDownloadSources, withoutCredentials } from '@ctkvr/model-runner';
import {
  devicesOf,
  findBinding,
  ISA_VARIABLE,
  type MemoryBandwidth,
  measureMemoryBandwidth,
  trustKernels,
} from '@ctkvr/native';
import { version } from '../version.js';
import type { Diagnosis, MemoryFacts, NetworkFacts, ProcessorFacts } from './diagnosis.js';
import { examineCache } from './examine-cache.js';
import { findProblems } from './find-problems.js';

/** All threads together: enough to be beyond most caches, filled in a moment. */
const BANDWIDTH_BYTES = 1 << 29;

export async function examine(env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Diagnosis> {
  const { engine, device, usableThreads, usableBytes } = await examineEngine(env);
  const facts = {
    program: { version, node: process.version, platform: process.platform, arch: process.arch, release: release() },
    processor: await examineProcessor(usableThreads),
    memory: await examineMemory(usableThreads, usableBytes),
    engine,
    device,
    cache: await examineCache(),
    network: await examineNetwork(env, signal),
  };
  const problems = findProblems(facts, env);
  return { usable: problems.every(({ severity }) => severity !== 'error'), problems, ...facts };
}

/** Tests every kernel table anew, in a child process. */
async function examineEngine(
  env: NodeJS.ProcessEnv,
): Promise<Pick<Diagnosis, 'engine' | 'device'> & { usableThreads: number; usableBytes: number | null }> {
  const forced = env[ISA_VARIABLE] || null;
  try {
    const { binding, path } = findBinding();
    // All tables, whatever is forced: that is what one wants to know when one is.
    const { tables, allowed } = await trustKernels({ binding, binaryPath: path, again: true, forced: '' });
    binding.allowKernels([...allowed]);
    const { version, ggmlFeatures, numUsableThreads, availableMemoryBytes } = binding.buildInfo();
    let used: string | null = null;
    let error: string | null = null;
    try {
      used = binding.fastestKernels();
    } catch (refusal) {
      error = messageOf(refusal);
    }
    const { size } = await stat(path);
    return {
      engine: { binary: { path, sizeBytes: size, version, ggmlFeatures }, error, kernels: tables, used, forced },
      device: devicesOf(binding),
      usableThreads: numUsableThreads,
      usableBytes: availableMemoryBytes,
    };
  } catch (error) {
    const engine = { binary: null, error: messageOf(error), kernels: [], used: null, forced };
    return { engine, device: null, usableThreads: availableParallelism(), usableBytes: null };
  }
}

async function examineProcessor(usableThreads: number): Promise<ProcessorFacts> {
  const all = cpus();
  return {
    name: all[0]?.model.trim() || process.arch,
    features: featuresOf(await readFile('/proc/cpuinfo', 'utf8').catch(() => '')),
    cores: all.length || availableParallelism(),
    usableThreads,
    loadAverage: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  };
}

/** Names of vector and matrix instructions in Linux's description of the processor. */
export function featuresOf(cpuinfo: string): string[] {
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? '';
  const matters = /^(sse4_[12]|avx|fma$|f16c$|bmi[12]$|popcnt$|amx|asimd|sve|sme$|i8mm|bf16|fphp)/;
  return flags.split(/\s+/).filter((flag) => matters.test(flag));
}

async function examineMemory(usableThreads: number, usableBytes: number | null): Promise<MemoryFacts> {
  const [total, limit] = [totalmem(), process.constrainedMemory?.() ?? 0];
  const room = usableBytes ?? freemem();
  return {
    totalBytes: total,
    freeBytes: freemem(),
    // Without a limit Node.js says 0 or a number beyond every machine.
    limitBytes: limit > 0 && limit < total ? limit : null,
    usableBytes,
    bandwidth: await measure(usableThreads, Math.min(BANDWIDTH_BYTES, room / 4)).catch(() => null),
  };
}

async function measure(numThreads: number, totalBytes: number): Promise<MemoryBandwidth> {
  const bufferBytes = Math.max(1 << 22, Math.floor(totalBytes / numThreads));
  const { gigabytesPerSecond, ...rest } = await measureMemoryBandwidth(numThreads, { bufferBytes, passes: 3 });
  return { gigabytesPerSecond: Math.round(gigabytesPerSecond * 10) / 10, ...rest };
}

async function examineNetwork(env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<NetworkFacts> {
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]);
  const set = names.filter((name) => env[name]);
  return {
    proxy: Object.fromEntries(set.map((name) => [name, withoutCredentials(env[name] ?? '')])),
    sources: await askDownloadSources({ env, signal }),
  };
}

function messageOf(error: unknown): string {
  if (CtkvrError.isInstance(error)) return error.message;
  return error instanceof Error ? error.message : String(error);
}
