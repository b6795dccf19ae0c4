/** What a selector's session says and reads on the tokens of the dense reference. */
import type { SelectionCounters, StageTimes, StepTimings } from '@ctkvr/core';
import type { Session } from '@ctkvr/model-runner';
import type { DenseReference } from './dense-reference.js';
import { followReference } from './follow-reference.js';
import { type KlByStep, klByStep } from './kl-by-step.js';
import { argmax, klDivergence } from './kl-divergence.js';
import { median } from './median.js';
import { significant } from './significant.js';

export interface StepsMeasure {
  /** Over the steps, nats: KL(dense || selector) of the next-token distributions. */
  readonly meanKl: number;
  readonly maxKl: number;
  readonly klByStep: KlByStep;
  /** Share of the steps whose likeliest token is the dense one. */
  readonly top1Agreement: number;
  /** Means over layers, KV heads and steps. */
  readonly candidatesPerHead: number;
  readonly selectedPerHead: number;
  readonly keysReadPerHead: number;
  readonly valuesReadPerHead: number;
  readonly bytesReadPerToken: number;
  /** Share of the steps that read every key of every head. */
  readonly denseStepShare: number;
  /** Share of all heads' steps that read everything because no centroid was similar to the query. */
  readonly denseRepairShare: number;
  /** Measured share of the attention weight that fell on what was read, 0 to 1; from a pass of its own. */
  readonly attentionMass: number;
  /** The same as the selector estimates it. */
  readonly estimatedAttentionMass: number;
  /** Mean over layers, query heads and steps of |estimated - measured mass|; from the same pass as the measured one. */
  readonly massError: number;
  /** Median wall clock of a decode step. */
  readonly msPerToken: number;
  /** Of that, by the engine's own clock; medians too. Retrieval is choosing what to read, attention is reading it. */
  readonly linearMs: number;
  readonly retrievalMs: number;
  readonly attentionMs: number;
  /** What these two are made of, means over the steps. */
  readonly stages: StageTimes | null;
  /** Times that the index grew or was set anew, and what that took in all. */
  readonly indexUpdates: number;
  readonly indexUpdateMs: number;
}

/**
 * Decodes twice: once on a fork, audited (which reads all keys), once on `session`, timed. Afterwards `session` holds the reference's tokens.
 * @param input.groupSize query heads per KV head.
 * @throws {CtkvrError} what `session.force` throws.
 */
export async function measureSteps(input: {
  readonly session: Session;
  readonly reference: DenseReference;
  readonly groupSize: number;
  readonly signal: AbortSignal;
  readonly onStep?: ((step: number, numSteps: number) => void) | undefined;
}): Promise<StepsMeasure> {
  const { session, reference, groupSize, signal, onStep } = input;
  const numSteps = reference.tokens.length;
  let step = 0;
  let audited = zeroCounters;
  {
    await using fork = session.fork();
    for await (const { counters } of followReference({ session: fork, reference, audit: true, signal })) {
      audited = addCounters(audited, counters);
      onStep?.(++step, 2 * numSteps);
    }
  }
  let sum = zeroCounters;
  const kls: number[] = [];
  let agreements = 0;
  let denseSteps = 0;
  const times: number[] = [];
  const timings: StepTimings[] = [];
  const updates: number[] = [];
  for await (const followed of followReference({ session, reference, audit: false, signal })) {
    const [dense, logits] = [followed.dense!, followed.logits!];
    kls.push(klDivergence(dense, logits));
    if (argmax(dense) === argmax(logits)) agreements++;
    if (followed.counters.keysRead >= followed.counters.keysTotal) denseSteps++;
    sum = addCounters(sum, followed.counters);
    times.push(followed.ms);
    timings.push(followed.timings);
    if (followed.indexUpdateMs !== null) updates.push(followed.indexUpdateMs);
    onStep?.(++step, 2 * numSteps);
  }
  return {
    meanKl: significant(total(kls) / numSteps),
    maxKl: significant(Math.max(...kls)),
    klByStep: klByStep(kls),
    top1Agreement: significant(agreements / numSteps),
    candidatesPerHead: significant(sum.candidates / sum.heads),
    selectedPerHead: significant(sum.selected / sum.heads),
    keysReadPerHead: significant(sum.keysRead / sum.heads),
    valuesReadPerHead: significant(sum.valuesRead / sum.heads),
    bytesReadPerToken: Math.round(sum.bytesRead / numSteps),
    denseStepShare: significant(denseSteps / numSteps),
    denseRepairShare: significant(sum.denseRepairs / sum.heads),
    attentionMass: significant(audited.measuredMass / (audited.auditedHeads * groupSize), 6),
    estimatedAttentionMass: significant(sum.estimatedMass / (sum.heads * groupSize), 6),
    massError: significant(audited.massError / (audited.auditedHeads * groupSize)),
    msPerToken: significant(median(times)),
    linearMs: significant(median(timings.map((t) => t.linearMs))),
    retrievalMs: significant(median(timings.map((t) => t.retrievalMs))),
    attentionMs: significant(median(timings.map((t) => t.attentionMs))),
    stages: meanStages(timings),
    indexUpdates: updates.length,
    indexUpdateMs: significant(total(updates)),
  };
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** null when the engine does not say. */
function meanStages(timings: readonly StepTimings[]): StageTimes | null {
  const sum: Record<string, number> = {};
  for (const { stages } of timings) {
    if (!stages) return null;
    for (const [stage, ms] of Object.entries(stages)) sum[stage] = (sum[stage] ?? 0) + ms / timings.length;
  }
  return Object.fromEntries(
    Object.entries(sum).map(([stage, ms]) => [stage, significant(ms)]),
  ) as unknown as StageTimes;
}

const zeroCounters: SelectionCounters = {
  heads: 0,
  keysTotal: 0,
  keysRead: 0,
  valuesRead: 0,
  centroidsProbed: 0,
  candidates: 0,
  selected: 0,
  bytesRead: 0,
  estimatedMass: 0,
  auditedHeads: 0,
  measuredMass: 0,
  auditedEstimatedMass: 0,
  massError: 0,
  denseRepairs: 0,
};

function addCounters(a: SelectionCounters, b: SelectionCounters): SelectionCounters {
  const sum: Record<string, number> = {};
  for (const key of Object.keys(zeroCounters) as (keyof SelectionCounters)[]) sum[key] = a[key] + b[key];
  return sum as unknown as SelectionCounters;
}
