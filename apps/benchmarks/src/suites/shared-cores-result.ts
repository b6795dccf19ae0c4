/** What the suite `shared-cores` found. */
import type { SampleStatistics } from '../sample-statistics.js';
import type { ResultHead } from './result-head.js';

/** What else runs: nothing, a second process that decodes as well, or a busy loop for each core. */
export type Beside = 'nothing' | 'another' | 'busy loops';

export interface SharedCoresResult extends ResultHead {
  readonly suite: 'shared-cores';
  readonly context: number;
  readonly rounds: number;
  readonly rows: readonly SharedCoresRow[];
}

export interface SharedCoresRow {
  readonly beside: Beside;
  readonly threads: number;
  /** Of one turn's mean over its tokens; beside another process, of both. */
  readonly msPerToken: SampleStatistics;
  /** How many times as long as beside nothing, of the medians. */
  readonly ratioToAlone: number;
}
