/** One selector against the dense reference, from the same prefilled state, with the same tokens forced. */
import type { SelectionCounters, StageTimes, StepTimings } from '@ctkvr/core';
import type { Model, SelectorChoice, Session } from '@ctkvr/model-runner';
import { significant } from '../format.js';
import { type DecodeStep, decodeSteps } from './decode-steps.js';
import type { DenseReference } from './dense-reference.js';
import { argmax, klDivergence } from './kl-divergence.js';
import { median } from './median.js';

export interface SelectorMeasure {
  /** Over the steps, nats: KL(dense || selector) of the next-token distributions. */
  readonly meanKl: number;
  readonly maxKl: number;
  /** Share of the steps whose likeliest token is the dense one. */
  readonly top1Agreement: number;
  /** Means over layers, KV heads and steps. */
  readonly candidatesPerHead: number;
  readonly selectedPerHead: number;
  readonly keysReadPerHead: number;
  readonly valuesReadPerHead: number;
  readonly bytesReadPerToken: number;
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
  /** 0 for selectors without an index. */
  readonly indexBuildMs: number;
  /** The recent queries from which centroids are made count, also where no index is built from them. */
  readonly indexBytes: number;
}

export interface MeasureInput {
  readonly model: Model;
  /** Holds the prompt, or the part of it before `question`; left as it is. */
  readonly base: Session;
  /** Tokens of the prompt that are read after the index was built; empty when `base` holds all. */
  readonly question: Int32Array;
  readonly selector: SelectorChoice;
  readonly reference: DenseReference;
  readonly signal: AbortSignal;
  readonly onStep?: (step: number, numSteps: number) => void;
}

/** Decodes twice: once timed, once audited (which reads all keys). */
export async function measureSelector(input: MeasureInput): Promise<SelectorMeasure> {
  const { reference, model } = input;
  const numSteps = reference.logits.length;
  let sum = zeroCounters;
  let totalKl = 0;
  let maxKl = 0;
  let agreements = 0;
  const times: number[] = [];
  const timings: StepTimings[] = [];
  const index = await forced(input, false, (step, { logits, counters, timings: stepTimings, ms }) => {
    const dense = reference.logits[step]!;
    const kl = klDivergence(dense, logits);
    totalKl += kl;
    maxKl = Math.max(maxKl, kl);
    if (argmax(dense) === argmax(logits)) agreements++;
    sum = addCounters(sum, counters);
    times.push(ms);
    timings.push(stepTimings);
    input.onStep?.(step + 1, 2 * numSteps);
  });
  let audited = zeroCounters;
  await forced(input, true, (step, { counters }) => {
    audited = addCounters(audited, counters);
    input.onStep?.(numSteps + step + 1, 2 * numSteps);
  });
  const groupSize = model.info.numQueryHeads / model.info.numKvHeads;
  return {
    meanKl: significant(totalKl / numSteps),
    maxKl: significant(maxKl),
    top1Agreement: significant(agreements / numSteps),
    candidatesPerHead: significant(sum.candidates / sum.heads),
    selectedPerHead: significant(sum.selected / sum.heads),
    keysReadPerHead: significant(sum.keysRead / sum.heads),
    valuesReadPerHead: significant(sum.valuesRead / sum.heads),
    bytesReadPerToken: Math.round(sum.bytesRead / numSteps),
    attentionMass: significant(audited.measuredMass / (audited.auditedHeads * groupSize), 6),
    estimatedAttentionMass: significant(sum.estimatedMass / (sum.heads * groupSize), 6),
    massError: significant(audited.massError / (audited.auditedHeads * groupSize)),
    msPerToken: significant(median(times)),
    linearMs: significant(median(timings.map((t) => t.linearMs))),
    retrievalMs: significant(median(timings.map((t) => t.retrievalMs))),
    attentionMs: significant(median(timings.map((t) => t.attentionMs))),
    stages: meanStages(timings),
    indexBuildMs: significant(index.buildMs),
    indexBytes: index.indexBytes,
  };
}

/** Forces the reference's tokens on a fork; returns what building its index took. */
async function forced(
  { model, base, question, selector, reference, signal }: MeasureInput,
  audit: boolean,
  onStep: (step: number, decoded: DecodeStep) => void,
): Promise<{ readonly buildMs: number; readonly indexBytes: number }> {
  await using session = base.fork();
  session.setSelector(selector);
  const bytesBefore = session.memory.indexBytes;
  const built = await session.buildIndex({ signal });
  const { indexBytes } = session.memory;
  const index = { buildMs: indexBytes > bytesBefore ? built.buildMs : 0, indexBytes };
  if (question.length > 0) await session.prefill(question, { buildIndex: false, signal });
  const next = (_logits: Float32Array, step: number) => reference.tokens[step]!;
  let step = 0;
  for await (const decoded of decodeSteps({
    model,
    session,
    numSteps: reference.logits.length,
    next,
    audit,
    signal,
  })) {
    onStep(step++, decoded);
  }
  return index;
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
};

function addCounters(a: SelectionCounters, b: SelectionCounters): SelectionCounters {
  const sum: Record<string, number> = {};
  for (const key of Object.keys(zeroCounters) as (keyof SelectionCounters)[]) sum[key] = a[key] + b[key];
  return sum as unknown as SelectionCounters;
}
