/** Where decode steps spend their time, as means over the usual ones, so that the stages add up. */
import type { SelectionCounters, StepTimings } from '@ctkvr/core';
import { significant } from '@ctkvr/evaluation';
import { quantileOf } from '../sample-statistics.js';
import { type Stage, type StageName, type StageSplit, stageNames } from './index-result.js';

export interface DecodedStep {
  /** From token to token. */
  readonly ms: number;
  readonly timings: StepTimings;
  readonly counters: SelectionCounters | null;
}

export interface StageSplitInput {
  readonly name: StageSplit['name'];
  readonly threads: number;
  readonly steps: readonly DecodedStep[];
  readonly modelSizeBytes: number;
  readonly headDim: number;
  /** Decimal GB/s. */
  readonly bandwidthGBps: number;
}

const F16_BYTES = 2;

/**
 * Steps whose time lies between the tenth and the ninetieth percentile are usual: one that another program interrupted must not move a mean.
 * @throws {RangeError} when there is no step.
 */
export function stageSplit(input: StageSplitInput): StageSplit {
  const times = input.steps.map(({ ms }) => ms);
  const [low, high] = [quantileOf(times, 0.1), quantileOf(times, 0.9)];
  const steps = input.steps.filter(({ ms }) => ms >= low && ms <= high);
  const mean = (value: (step: DecodedStep) => number) =>
    steps.reduce((sum, step) => sum + value(step), 0) / steps.length;
  const bytesOf: Partial<Record<StageName, number>> = {
    linear: input.modelSizeBytes,
    score: mean(({ counters }) => counters?.candidates ?? 0) * input.headDim * F16_BYTES,
    attend: mean(({ counters }) => readByAttention(counters)) * input.headDim * F16_BYTES,
  };
  const stages = stageNames.map((name): Stage => {
    const ms = mean((step) => stageMs(step, name));
    const bytes = Math.round(bytesOf[name] ?? 0);
    const isKnown = bytes > 0 && ms > 0;
    return {
      name,
      ms: significant(ms),
      bytes: isKnown ? bytes : null,
      shareOfLimit: isKnown ? significant(bytes / (input.bandwidthGBps * 1e6) / ms) : null,
    };
  });
  const { name, threads } = input;
  return { name, threads, totalMs: significant(mean(({ ms }) => ms)), numSteps: steps.length, stages };
}

/** Rows of keys and values: those of sinks and window both, of the selected their values only, since their scores are known. */
function readByAttention(counters: SelectionCounters | null): number {
  return counters === null ? 0 : counters.keysRead - counters.candidates + counters.valuesRead;
}

function stageMs({ ms, timings }: DecodedStep, name: StageName): number {
  const { stages } = timings;
  switch (name) {
    case 'linear':
      return timings.linearMs;
    case 'sampling':
      return timings.samplingMs;
    case 'growth':
      return timings.indexMs;
    case 'between':
      return Math.max(0, ms - timings.totalMs);
    default:
      return stages?.[`${name}Ms`] ?? 0;
  }
}
