/** What the suite `load` found. Times are milliseconds. */
import type { SampleStatistics } from '../sample-statistics.js';
import type { PeerTrial, RowName } from './bench-row.js';
import type { ResultHead } from './result-head.js';

export interface LoadResult extends ResultHead {
  readonly suite: 'load';
  readonly rounds: number;
  /** Tokens of the prompt whose first token is waited for. */
  readonly promptTokens: number;
  readonly rows: readonly LoadRow[];
  /** Of that prompt's first token, with a model that is loaded. */
  readonly peerTrials: readonly PeerTrial[];
}

/** Every round is a process of its own. */
export interface LoadRow {
  readonly name: Exclude<RowName, 'full'>;
  readonly threads: number;
  readonly flashAttention: boolean | null;
  /** From the start of the process to the first token. */
  readonly totalMs: SampleStatistics;
  /** Of that: the model's own loading, and the prompt; the rest is the process, its modules, and the peer's context. Medians. */
  readonly loadMs: number;
  readonly firstTokenMs: number;
  /** How many times as fast as the peer, start to first token; null without it. */
  readonly ratioToPeer: number | null;
  readonly peakMemoryBytes: number;
}
