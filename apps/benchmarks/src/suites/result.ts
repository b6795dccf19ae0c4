/** What a suite returns and `--json` prints. Times are milliseconds. */
import type { Machine } from '../machine.js';
import type { SampleStatistics } from '../sample-statistics.js';

export interface BenchResult {
  readonly suite: 'decode' | 'prefill';
  readonly date: string;
  readonly machine: Machine;
  readonly commit: string | null;
  readonly model: { readonly name: string; readonly sizeBytes: number; readonly sha256: string };
  /** Tokens before the first measured one. */
  readonly context: number;
  readonly rounds: number;
  readonly rows: readonly BenchRow[];
  /** Every setting the peer was tried with; its row is the best of them. */
  readonly peerTrials: readonly PeerTrial[];
}

export interface BenchRow {
  /** `full` and `ctkvr` are ours. */
  readonly name: 'full' | 'ctkvr' | 'node-llama-cpp';
  readonly threads: number;
  /** The peer's flash attention; null for ours. */
  readonly flashAttention: boolean | null;
  /** decode: a token. prefill: from the call to the first token. */
  readonly medianMs: number;
  readonly p10: number;
  readonly p90: number;
  readonly numSamples: number;
  readonly tokensPerSecond: number;
  /** How many times as fast as the peer's best; null without the peer. */
  readonly ratioToPeer: number | null;
  /** Mean KL to our dense attention over some teacher-forced steps, nats; null where it was not measured. */
  readonly meanKlToFull: number | null;
  readonly top1Agreement: number | null;
  /** Weights (the file's size) plus keys, values and index read by a decode step; null where unknown. */
  readonly bytesPerToken: number | null;
  /** Share of the time that reading those bytes must take at the measured bandwidth; null where unknown. */
  readonly shareOfLimit: number | null;
  /** Peak resident set of the contender's process. */
  readonly peakMemoryBytes: number;
}

export interface PeerTrial {
  readonly threads: number;
  readonly flashAttention: boolean;
  /** The fastest sample: trials are few, and something else that ran meanwhile must not decide against a setting. */
  readonly bestMs: number;
}

/** A row without its ratio, which needs the peer's. */
export interface RowInput extends Partial<Pick<BenchRow, 'meanKlToFull' | 'top1Agreement' | 'bytesPerToken'>> {
  readonly name: BenchRow['name'];
  readonly threads: number;
  readonly flashAttention?: boolean | undefined;
  readonly statistics: SampleStatistics;
  /** Tokens one sample stands for: 1 in decode, the context in prefill. */
  readonly tokensPerSample: number;
  readonly peakMemoryBytes: number;
}

/** Completes the rows: ratios to the fastest row of the peer, rates, share of the limit. @param bandwidthGBps decimal GB/s */
export function toRows(inputs: readonly RowInput[], bandwidthGBps: number): BenchRow[] {
  const peerMedians = inputs.filter((row) => row.name === 'node-llama-cpp').map((row) => row.statistics.median);
  const peerBest = peerMedians.length === 0 ? null : Math.min(...peerMedians);
  return inputs.map((row) => {
    const { median, p10, p90, numSamples } = row.statistics;
    const bytesPerToken = row.bytesPerToken ?? null;
    const limitMs = bytesPerToken === null ? null : bytesPerToken / (bandwidthGBps * 1e6);
    return {
      name: row.name,
      threads: row.threads,
      flashAttention: row.flashAttention ?? null,
      medianMs: rounded(median),
      p10: rounded(p10),
      p90: rounded(p90),
      numSamples,
      tokensPerSecond: rounded((row.tokensPerSample * 1000) / median),
      ratioToPeer: peerBest === null ? null : rounded(peerBest / median),
      meanKlToFull: row.meanKlToFull ?? null,
      top1Agreement: row.top1Agreement ?? null,
      bytesPerToken,
      shareOfLimit: limitMs === null ? null : rounded(limitMs / median),
      peakMemoryBytes: row.peakMemoryBytes,
    };
  });
}

/** Four significant digits: more would pretend. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
