/** What `ctkvr doctor` finds; `--json` prints it as it is. */
import type { DownloadSource, ListedModel } from '@ctkvr/model-runner';
import type { DeviceReport, KernelReport, MemoryBandwidth } from '@ctkvr/native';

export interface Diagnosis {
  /** Nothing was found that keeps models from running. */
  readonly usable: boolean;
  readonly problems: readonly Problem[];
  readonly program: ProgramFacts;
  readonly processor: ProcessorFacts;
  readonly memory: MemoryFacts;
  readonly engine: EngineFacts;
  /** Beside the processor, with why there are none; null without an engine to ask. */
  readonly device: DeviceReport | null;
  readonly cache: CacheFacts;
  readonly network: NetworkFacts;
}

export interface Problem {
  /** 'error': no model runs; 'warning': something is slower or not to be had. */
  readonly severity: 'error' | 'warning';
  readonly what: string;
  readonly remedy: string;
}

export interface ProgramFacts {
  readonly version: string;
  readonly node: string;
  /** As Node.js names them: 'linux', 'x64', and the system's release. */
  readonly platform: string;
  readonly arch: string;
  readonly release: string;
}

export interface ProcessorFacts {
  readonly name: string;
  /** Instruction sets that matter here, as the system names them; empty where it does not tell. */
  readonly features: readonly string[];
  readonly cores: number;
  /** Threads that really run at once: affinity and the quota of control groups counted. */
  readonly usableThreads: number;
  /** Mean number of runnable threads in the last minute. */
  readonly loadAverage: number;
}

export interface MemoryFacts {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Of this process's control group; null when there is none. */
  readonly limitBytes: number | null;
  /** What this process may still take; null without an engine to ask. */
  readonly usableBytes: number | null;
  /** A short measurement, all usable threads reading; null when it failed. */
  readonly bandwidth: MemoryBandwidth | null;
}

export interface EngineFacts {
  /** null when none loads; then `error` says why. */
  readonly binary: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly version: string;
    readonly ggmlFeatures: readonly string[];
  } | null;
  readonly error: string | null;
  readonly kernels: readonly KernelReport[];
  /** Name of the fastest table that may be used; null without an engine, or when CTKVR_ISA names none. */
  readonly used: string | null;
  /** Value of CTKVR_ISA. */
  readonly forced: string | null;
}

export interface CacheFacts {
  readonly folder: string;
  readonly writable: boolean;
  readonly freeBytes: number | null;
  readonly models: readonly Pick<ListedModel, 'name' | 'path' | 'sizeBytes'>[];
}

export interface NetworkFacts {
  /** Variables that name a proxy or exceptions, without passwords. */
  readonly proxy: Readonly<Record<string, string>>;
  readonly sources: readonly DownloadSource[];
}
