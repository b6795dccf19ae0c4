/** What a suite returns and `--json` prints. Times are milliseconds. */
import type { KvFormat } from '@ctkvr/core';
import type { BatchResult } from './batch-result.js';
import type { BenchRow, PeerTrial } from './bench-row.js';
import type { IndexResult } from './index-result.js';
import type { KernelsResult } from './kernels-result.js';
import type { LoadResult } from './load-result.js';
import type { DecodeSettings, ResultHead } from './result-head.js';
import type { SameBitsResult } from './same-bits-result.js';
import type { SharedCoresResult } from './shared-cores-result.js';

/** `decode` and `prefill`: one figure for each contender. */
export interface BenchResult extends ResultHead, DecodeSettings {
  readonly suite: 'decode' | 'prefill';
  /** Tokens before the first measured one. */
  readonly context: number;
  readonly rounds: number;
  /** Of our session in `decode`; absent = f16. Each row's KL is to dense attention of the same session. */
  readonly kvFormat?: KvFormat;
  readonly rows: readonly BenchRow[];
  /** Every setting the peer was tried with; its row is the best of them. */
  readonly peerTrials: readonly PeerTrial[];
}

export type SuiteResult =
  | BenchResult
  | BatchResult
  | IndexResult
  | LoadResult
  | KernelsResult
  | SameBitsResult
  | SharedCoresResult;
export type SuiteName = SuiteResult['suite'];
