/** What the suite `index` found. Times are milliseconds. */
import type { SampleStatistics } from '../sample-statistics.js';
import type { DecodeSettings, ResultHead } from './result-head.js';

export interface IndexResult extends ResultHead, DecodeSettings {
  readonly suite: 'index';
  /** Tokens that are indexed, sinks and recent window among them. */
  readonly context: number;
  readonly rounds: number;
  readonly build: IndexBuild;
  readonly growth: IndexGrowth;
  readonly turn: IndexTurn;
  /** Where a decode step spends its time: dense, and with the index. */
  readonly splits: readonly StageSplit[];
}

export interface IndexBuild {
  /** Of the prompt, the index not counted: median of the rounds. */
  readonly prefillMs: number;
  readonly buildMs: SampleStatistics;
  /** Medians' quotient. */
  readonly shareOfPrefill: number;
  /** Lists, centroids, clusters, and the queries kept to become centroids. */
  readonly indexBytes: number;
  readonly kvBytes: number;
  readonly indexedTokens: number;
}

/** While tokens are generated, the index grows inside the engine's steps. */
export interface IndexGrowth {
  readonly tokens: number;
  /** A mean over all of them, those without growth too. */
  readonly msPerToken: number;
  /** Of the steps' time. */
  readonly shareOfSteps: number;
  /** The step that took longest for it. */
  readonly maxMs: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/** A further turn's tokens are prefilled, then their queries become centroids at once. */
export interface IndexTurn {
  readonly tokens: number;
  readonly prefillMs: number;
  readonly extendMs: number;
}

export interface StageSplit {
  readonly name: 'full' | 'ctkvr';
  readonly threads: number;
  /** From token to token: the sum of the stages. */
  readonly totalMs: number;
  readonly numSteps: number;
  readonly stages: readonly Stage[];
}

export interface Stage {
  readonly name: StageName;
  readonly ms: number;
  /** What it reads, where that is known: weights (the file's size), keys, values. */
  readonly bytes: number | null;
  /** Of the measured memory bandwidth; null where the bytes are unknown or none. */
  readonly shareOfLimit: number | null;
}

/** In the order of a step. `between`: from the end of the engine's step to the token in JavaScript and on to the next step. */
export const stageNames = [
  'linear',
  'store',
  'probe',
  'union',
  'score',
  'select',
  'attend',
  'merge',
  'wait',
  'sampling',
  'growth',
  'between',
] as const;
export type StageName = (typeof stageNames)[number];
