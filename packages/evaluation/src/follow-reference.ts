/**
 * A selector's session on the tokens of the dense reference, both a step at a time. The session decodes as it does for users: its index
 * grows in the engine's steps, or is brought up to date between them.
 */
import { CtkvrError, type SelectionCounters, type StepTimings } from '@ctkvr/core';
import type { Session } from '@ctkvr/model-runner';
import type { DenseReference } from './dense-reference.js';

export interface FollowedStep {
  /** f32 [vocabSize]: what the selector says; null in an audit. */
  readonly logits: Float32Array | null;
  /** f32 [vocabSize]: what dense attention says; null in an audit. */
  readonly dense: Float32Array | null;
  readonly counters: SelectionCounters;
  readonly timings: StepTimings;
  /** Wall clock of the step, work on the index not included. */
  readonly ms: number;
  /** Wall clock of that work; null when the index stayed as it was. */
  readonly indexUpdateMs: number | null;
}

/**
 * Puts the reference's tokens behind the session's end and yields each step.
 * @param input.audit measures the true attention mass instead of the distributions (reads all keys).
 * @throws {CtkvrError} what `session.force` throws.
 */
export async function* followReference(input: {
  readonly session: Session;
  readonly reference: DenseReference;
  readonly audit: boolean;
  readonly signal: AbortSignal;
}): AsyncGenerator<FollowedStep, void, undefined> {
  const { session, reference, audit, signal } = input;
  const distributions = audit ? null : reference.distributions();
  const forced = session.force(reference.tokens, { audit, signal });
  try {
    for (;;) {
      const indexedBefore = session.native.indexedRange.end;
      const startedAt = performance.now();
      const { value: step } = await forced.next();
      const elapsedMs = performance.now() - startedAt;
      if (!step) return;
      const { counters, timings, msPerToken } = step.statistics;
      if (counters === null)
        throw new CtkvrError('CTKVR_INTERNAL', 'the engine returned no counters for a decode step');
      const dense = distributions && (await distributions.next()).value;
      yield {
        logits: audit ? null : step.logits,
        dense: dense ?? null,
        counters,
        timings,
        ms: msPerToken - timings.indexMs,
        indexUpdateMs:
          session.native.indexedRange.end === indexedBefore
            ? null
            : Math.max(0, elapsedMs - msPerToken) + timings.indexMs,
      };
    }
  } finally {
    await forced.return();
    await distributions?.return();
  }
}
