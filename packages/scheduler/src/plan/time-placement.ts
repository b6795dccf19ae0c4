/** How long a step takes with one placement, and what takes the time. */
import {
  type LayerWork,
  type LayerWorkInput,
  layerWork,
  SAMPLING_MS,
  type Work,
  type WorkPart,
  workMs,
} from './layer-work.js';
import { type LayerPlace, microBatchSizes, type Placement, placesOf } from './placement.js';
import { simulateStep, type TimelineEvent } from './simulate-step.js';

export interface StepTime {
  /** A token of every sequence. */
  readonly totalMs: number;
  /** Busy milliseconds by part, over all layers and micro-batches. */
  readonly device: Work;
  readonly host: Work;
  readonly hopMs: number;
  readonly timeline: readonly TimelineEvent[];
}

export interface Bottleneck {
  /** What is busiest; 'hops' are waits. */
  readonly resource: 'device' | 'host' | 'hops';
  /** What it does most; null for hops. */
  readonly part: WorkPart | null;
  /** Milliseconds of this part, or of all hops of one micro-batch. */
  readonly ms: number;
  readonly shareOfStep: number;
}

/** The work of one layer by its place, for each micro-batch of a step in one and of a step in two. */
export interface StepWork {
  readonly byMicroBatches: Readonly<Record<1 | 2, Readonly<Record<LayerPlace, readonly LayerWork[]>>>>;
  readonly hopMs: number;
}

/** Returns what placements are timed by: layers of one place are alike. */
export function stepWork(numSequences: number, input: LayerWorkInput): StepWork {
  const of = (microBatches: 1 | 2) => {
    const sizes = microBatchSizes(microBatches, numSequences);
    const at = (place: LayerPlace) => sizes.map((size) => layerWork(place, size, input));
    return { device: at('device'), hybrid: at('hybrid'), host: at('host') };
  };
  return { byMicroBatches: { 1: of(1), 2: of(2) }, hopMs: input.rates.hopMs };
}

/** Returns the milliseconds of a step alone: for thousands of placements. */
export function placementMs(placement: Placement, work: StepWork): number {
  return simulateStep(layersOf(placement, work), work.hopMs) + SAMPLING_MS;
}

/** Returns the time of a step with all that makes it up. */
export function timePlacement(placement: Placement, work: StepWork): StepTime {
  const timeline: TimelineEvent[] = [];
  const endMs = simulateStep(layersOf(placement, work), work.hopMs, (event) => timeline.push(event));
  const only = (resource: TimelineEvent['resource']) => timeline.filter((event) => event.resource === resource);
  const hops = [...only('toHost'), ...only('toDevice')].filter(({ microBatch }) => microBatch === 0);
  return {
    totalMs: endMs + SAMPLING_MS,
    device: { ...sum(only('device')), sampling: SAMPLING_MS },
    host: sum(only('host')),
    hopMs: hops.length * work.hopMs,
    timeline,
  };
}

function layersOf(placement: Placement, { byMicroBatches }: StepWork): (readonly LayerWork[])[] {
  return placesOf(placement).map((place) => byMicroBatches[placement.microBatches][place]);
}

/** Returns what is busiest in a step, and most of its work. */
export function bottleneckOf({ totalMs, device, host, hopMs }: StepTime): Bottleneck {
  const [deviceMs, onHostMs] = [workMs(device), workMs(host)];
  if (hopMs > deviceMs && hopMs > onHostMs) {
    return { resource: 'hops', part: null, ms: hopMs, shareOfStep: hopMs / totalMs };
  }
  const [resource, work] = onHostMs > deviceMs ? (['host', host] as const) : (['device', device] as const);
  const [part, ms] = (Object.entries(work) as [WorkPart, number][]).reduce((a, b) => (b[1] > a[1] ? b : a));
  return { resource, part, ms, shareOfStep: ms / totalMs };
}

function sum(events: readonly TimelineEvent[]): Work {
  const total: Partial<Record<WorkPart, number>> = {};
  for (const { work } of events) {
    for (const [part, ms] of Object.entries(work) as [WorkPart, number][]) total[part] = (total[part] ?? 0) + ms;
  }
  return total;
}
