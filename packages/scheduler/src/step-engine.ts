/**
 * What the composer asks of an engine. `NativeModel` of @ctkvr/native has this shape; so will a device engine. No logic here.
 */
import type { SelectionCounters, StepTimings } from '@ctkvr/core';

/** A row of KV that an engine can append to. */
export interface EngineSequence {
  /** Tokens whose keys and values are stored. */
  readonly length: number;
  /** Drops positions >= length, as if they had never been appended. */
  truncate(length: number): void;
}

/** What to return for an entry's last token: nothing, a token drawn by the sequence's sampler, all logits, or both of these. */
export type StepOutput = 'none' | 'sample' | 'logits' | 'sampleAndLogits';

/** Whether an entry's rows are a prompt's or an answer's: they are computed, read and indexed differently. */
export type StepPhase = 'prefill' | 'decode';

/** One sequence's share of a step. */
export interface StepEntry<Sequence extends EngineSequence> {
  readonly sequence: Sequence;
  /** Token ids to append: one to decode, one or more to prefill. */
  readonly tokens: Int32Array;
  readonly phase: StepPhase;
  readonly output: StepOutput;
}

/** What a step tells beside what its entries ask for. Nothing that it computes depends on it. */
export interface StepMeasures {
  /** Also measure the true attention mass of decodes: reads all their keys. */
  readonly audit?: boolean;
  /** Also tell where the attention of decodes went. */
  readonly readMap?: boolean;
}

/** What a step gave one sequence. */
export interface SequenceStepResult {
  readonly tokenId: number | null;
  /** Why no token was drawn where one was wanted: the sequence's grammar could not say what comes next. */
  readonly failure?: string | null;
  /** f32 [vocabSize]; null when the entry's output has no logits. */
  readonly logits: Float32Array | null;
  /** null for a prefill. */
  readonly counters: SelectionCounters | null;
  /**
   * f32, one for each passage of the sequence: the share of the attention that went to its keys, the mean over layers and query heads. The sum is 1
   * less what was estimated of keys that were not read. null for a prefill, where no entry asked for it, and of an engine without it.
   */
  readonly readMap: Float32Array | null;
}

export interface EngineStepResult {
  /** One per entry, in order. */
  readonly sequences: readonly SequenceStepResult[];
  readonly timings: StepTimings;
}

/** Runs one step at a time. A step that rejects leaves every sequence as it was before that step. */
export interface StepEngine<Sequence extends EngineSequence> {
  step(plan: readonly StepEntry<Sequence>[], options: StepMeasures): Promise<EngineStepResult>;
  /** Makes the running step or index build reject soon; without one, nothing happens. */
  cancel(): void;
}
