/** What the suite `batch` found. Times are milliseconds. */
import type { BenchRow, PeerTrial, RowName } from './bench-row.js';
import type { DecodeSettings, ResultHead } from './result-head.js';

export interface BatchResult extends ResultHead, DecodeSettings {
  readonly suite: 'batch';
  /** Tokens of each sequence before the first measured one. */
  readonly context: number;
  /** Sequences that decode at once. */
  readonly sequences: number;
  readonly rounds: number;
  /** Of all sequences together: `tokensPerSecond` is the total. */
  readonly rows: readonly BenchRow[];
  /** One sequence decodes while another one prefills as many tokens. */
  readonly besidePrefill: readonly BesidePrefillRow[];
  readonly peerTrials: readonly PeerTrial[];
}

/** The gaps between the tokens of a running sequence, alone and while another one prefills. */
export interface BesidePrefillRow {
  readonly name: RowName;
  readonly threads: number;
  /** The peer's flash attention and tokens of one step; null for ours. */
  readonly flashAttention: boolean | null;
  readonly batchSize: number | null;
  /** Median of a token alone, measured just before. */
  readonly aloneMs: number;
  /** While the other one prefills. */
  readonly medianMs: number;
  readonly p95Ms: number;
  readonly maxMs: number;
  readonly p95ToAlone: number;
  readonly numSamples: number;
  /** The other one's, from its call to its end (its index included). */
  readonly prefillMs: number;
}
