/**
 * Single decode steps on a session's sequence, straight on the engine: every step returns all logits, and the caller says which token comes
 * next. Nothing else may run on the model meanwhile.
 */
import { CtkvrError, type SelectionCounters, type StepTimings } from '@ctkvr/core';
import type { Model, Session } from '@ctkvr/model-runner';

export interface DecodeStep {
  /** f32 [vocabSize]: the distribution after the token that was fed. */
  readonly logits: Float32Array;
  readonly counters: SelectionCounters;
  readonly timings: StepTimings;
  /** Wall clock of the step as JavaScript sees it. */
  readonly ms: number;
}

/**
 * Feeds the prompt's last token, then what `next` returns for each step's logits, `numSteps` steps in all; yields each step.
 * @param session prefilled; its last token is not yet in the engine (so prefill leaves it). It must not be used afterwards, except closed.
 * @throws {CtkvrError} CTKVR_ABORTED between two steps.
 */
export async function* decodeSteps(input: {
  readonly model: Model;
  readonly session: Session;
  readonly numSteps: number;
  readonly next: (logits: Float32Array, step: number) => number;
  /** Also measure the true attention mass (reads all keys). */
  readonly audit?: boolean;
  readonly signal: AbortSignal;
}): AsyncGenerator<DecodeStep, void, undefined> {
  const { model, session, numSteps, next, audit = false, signal } = input;
  const { tokens } = session;
  let pending = tokens.subarray(session.native.length);
  for (let step = 0; step < numSteps; step++) {
    if (signal.aborted) throw new CtkvrError('CTKVR_ABORTED', 'the measurement was cancelled');
    const startedAt = performance.now();
    const result = await model.native.step([{ sequence: session.native, tokens: pending, output: 'logits' }], {
      audit,
    });
    const ms = performance.now() - startedAt;
    const entry = result.sequences[0];
    if (!entry?.logits || !entry.counters)
      throw new CtkvrError('CTKVR_INTERNAL', 'the engine returned no logits or counters for a decode step');
    yield { logits: entry.logits, counters: entry.counters, timings: result.timings, ms };
    pending = Int32Array.of(next(entry.logits, step));
  }
}
