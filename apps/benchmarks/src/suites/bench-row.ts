/** A row of a suite that gives one figure for each contender, and how it is completed from what was measured. */
import { significant } from '@ctkvr/evaluation';
import type { SampleStatistics } from '../sample-statistics.js';
import { type Limits, type ShareOfLimit, shareOfLimit } from './limits.js';

/** `full` and `ctkvr` are ours. */
export type RowName = 'full' | 'ctkvr' | 'node-llama-cpp';

export interface BenchRow {
  readonly name: RowName;
  readonly threads: number;
  /** The peer's flash attention; null for ours. */
  readonly flashAttention: boolean | null;
  /** decode: a token. prefill: from the call to the first token. batch: a token, all sequences counted. */
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
  /** Weights (the file's size, shared by the sequences of a step) plus keys, values and index read for a token; null where unknown. */
  readonly bytesPerToken: number | null;
  /** f32 additions and multiplications of a sample: decode: linear layers of a token, prefill: all of the prompt; null where unknown. */
  readonly operations: number | null;
  /** Of the time taken, what the nearer limit leaves: memory bandwidth or arithmetic peak, as measured in the same run. */
  readonly shareOfLimit: number | null;
  readonly limit: ShareOfLimit['limit'] | null;
  /** Peak resident set of the contender's process. */
  readonly peakMemoryBytes: number;
}

export interface PeerTrial {
  readonly threads: number;
  readonly flashAttention: boolean;
  /** The fastest sample: trials are few, and a disturbed one must not decide against a setting. */
  readonly bestMs: number;
}

type Optional = 'meanKlToFull' | 'top1Agreement' | 'bytesPerToken' | 'operations';

/** A row without its ratio, which needs the peer's. */
export interface RowInput extends Partial<Pick<BenchRow, Optional>> {
  readonly name: RowName;
  readonly threads: number;
  readonly flashAttention?: boolean | undefined;
  readonly statistics: SampleStatistics;
  /** Tokens one sample stands for: the context in prefill, else 1. */
  readonly tokensPerSample: number;
  readonly peakMemoryBytes: number;
}

/** Completes the rows: ratios to the fastest row of the peer, rates, share of the nearer limit. */
export function toRows(inputs: readonly RowInput[], limits: Limits): BenchRow[] {
  const peerMedians = inputs.filter((row) => row.name === 'node-llama-cpp').map((row) => row.statistics.median);
  const peerBest = peerMedians.length === 0 ? null : Math.min(...peerMedians);
  return inputs.map((row) => {
    const { median, p10, p90, numSamples } = row.statistics;
    const [bytesPerToken, operations] = [row.bytesPerToken ?? null, row.operations ?? null];
    const share = shareOfLimit({ bytes: bytesPerToken, operations }, median, limits);
    return {
      name: row.name,
      threads: row.threads,
      flashAttention: row.flashAttention ?? null,
      medianMs: significant(median),
      p10: significant(p10),
      p90: significant(p90),
      numSamples,
      tokensPerSecond: significant((row.tokensPerSample * 1000) / median),
      ratioToPeer: peerBest === null ? null : significant(peerBest / median),
      meanKlToFull: row.meanKlToFull ?? null,
      top1Agreement: row.top1Agreement ?? null,
      bytesPerToken,
      operations,
      shareOfLimit: share?.shareOfLimit ?? null,
      limit: share?.limit ?? null,
      peakMemoryBytes: row.peakMemoryBytes,
    };
  });
}
