/** What this machine can do at most, and how near a figure comes to it. */
import { significant } from '@ctkvr/evaluation';

export interface Limits {
  /** Decimal GB/s. */
  readonly bandwidthGBps: number;
  /** Operations a second, in billions; null where it was not measured. */
  readonly gflops: number | null;
}

/** What something needs; null or 0 where that is unknown. */
export interface Needs {
  readonly bytes: number | null;
  readonly operations: number | null;
}

export interface ShareOfLimit {
  /** Of the time that was taken, what the nearer limit leaves. Above 1 where 8-bit products beat the peak, or caches memory. */
  readonly shareOfLimit: number;
  readonly limit: 'memory' | 'arithmetic';
}

/** Returns the share of the limit that is nearer; null where neither bytes nor operations are known. @param ms the time it took. */
export function shareOfLimit({ bytes, operations }: Needs, ms: number, limits: Limits): ShareOfLimit | null {
  const memoryMs = (bytes ?? 0) / (limits.bandwidthGBps * 1e6);
  const arithmeticMs = limits.gflops === null ? 0 : (operations ?? 0) / (limits.gflops * 1e6);
  const limitMs = Math.max(memoryMs, arithmeticMs);
  if (limitMs === 0 || ms === 0) return null;
  return {
    shareOfLimit: significant(limitMs / ms),
    limit: memoryMs >= arithmeticMs ? 'memory' : 'arithmetic',
  };
}

/** What of a machine limits are made of; results of an earlier day have no arithmetic peak. */
export interface MeasuredMachine {
  readonly memory: { readonly bandwidthGBps: number };
  readonly arithmetic?: { readonly gflops: number; readonly bf16Gflops?: number | null } | null;
}

/** The limits of work in f32, as a decode is. */
export function limitsOf({ memory, arithmetic }: MeasuredMachine): Limits {
  return { bandwidthGBps: memory.bandwidthGBps, gflops: arithmetic?.gflops ?? null };
}

/** The limits of a prefill, which multiplies bf16 where the CPU can. */
export function prefillLimitsOf(machine: MeasuredMachine): Limits {
  const limits = limitsOf(machine);
  return { ...limits, gflops: machine.arithmetic?.bf16Gflops ?? limits.gflops };
}
