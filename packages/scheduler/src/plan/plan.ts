/**
 * Answers where keys and values of a model's sequences go on a machine, and how long a token then takes. Everything is predicted: bytes from
 * formulas, times from bytes and bandwidths. Of all placements the fastest that fits is chosen.
 */
import { CtkvrError } from '@ctkvr/core';
import { type DenseStep, denseStep } from './dense-step.js';
import type { LayerWorkInput } from './layer-work.js';
import { type DeviceSpec, type HostSpec, machineRates } from './machine-spec.js';
import { type PlacedMemory, placedMemory } from './placed-memory.js';
import { enumeratePlacements, type LayerPlace, layerPlaces, type Placement } from './placement.js';
import { checkPlanOptions, type PlanOptions } from './plan-options.js';
import { keyValueBytes, type ReadBytes, readBytes, totalBytes } from './read-bytes.js';
import { type RetrievalReads, retrievalReads } from './retrieval-reads.js';
import {
  type Bottleneck,
  bottleneckOf,
  placementMs,
  type StepTime,
  stepWork,
  timePlacement,
} from './time-placement.js';
import { weightBytes } from './weight-bytes.js';

/** One placement with what it takes. */
export interface PlacedStep {
  readonly placement: Placement;
  readonly memory: PlacedMemory;
  readonly fits: boolean;
  readonly time: StepTime;
}

export interface Plan extends PlacedStep {
  readonly device: DeviceSpec;
  readonly host: HostSpec;
  /** A second, all sequences together. */
  readonly tokensPerSecond: number;
  readonly weightsBytes: number;
  /** Counts of one head, which bytes follow from. */
  readonly reads: RetrievalReads;
  /** Of one sequence and step. */
  readonly bytes: ReadBytes;
  /** What a dense step reads of one sequence. */
  readonly denseBytes: number;
  readonly dense: DenseStep;
  /** Times as fast as the dense step, were that one's memory there. */
  readonly speedUp: number;
  /** By bytes alone: as if all of them were read at the same speed, and nothing else took time. */
  readonly ceiling: { readonly speedUp: number; readonly stepMs: number };
  readonly bottleneck: Bottleneck;
  /** All layers in one place, for comparison: of each place the faster of one and two micro-batches. */
  readonly uniform: readonly PlacedStep[];
}

/**
 * Returns the fastest placement of the fastest device. Milliseconds for tens of layers.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION; CTKVR_OUT_OF_MEMORY when no placement fits, with the least that would.
 */
export function plan(options: PlanOptions): Plan {
  checkPlanOptions('plan', options);
  const plans = options.devices.map((device) => planDevice(device, options)).filter((found) => found !== null);
  if (plans.length === 0) throw doesNotFit(options);
  return plans.reduce((best, other) => (other.time.totalMs < best.time.totalMs ? other : best));
}

/** Returns the fastest placement on one device, or null when none fits. */
export function planDevice(device: DeviceSpec, options: PlanOptions): Plan | null {
  const { host, sequences } = options;
  const input = workInput(device, options);
  const work = stepWork(sequences, input);
  const place = (placement: Placement): PlacedStep => {
    const memory = placedMemory({ ...input, placement, numSequences: sequences });
    return { placement, memory, fits: fits(memory, device, host), time: timePlacement(placement, work) };
  };
  let fastest: { readonly placement: Placement; readonly ms: number } | null = null;
  for (const placement of enumeratePlacements(input.model.numLayers, sequences)) {
    if (!fits(placedMemory({ ...input, placement, numSequences: sequences }), device, host)) continue;
    const ms = placementMs(placement, work);
    if (fastest === null || ms < fastest.ms) fastest = { placement, ms };
  }
  if (fastest === null) return null;
  const best = place(fastest.placement);
  const { weightsBytes } = input;
  const bytes = readBytes(input);
  const denseBytes = keyValueBytes(input);
  const dense = denseStep(device, { ...input, sequences, keyValueBytes: denseBytes });
  const allBytes = weightsBytes + sequences * totalBytes(bytes);
  return {
    ...best,
    device,
    host,
    tokensPerSecond: (sequences * 1000) / best.time.totalMs,
    weightsBytes,
    reads: input.reads,
    bytes,
    denseBytes,
    dense,
    speedUp: dense.totalMs / best.time.totalMs,
    ceiling: {
      speedUp: (weightsBytes + sequences * denseBytes) / allBytes,
      stepMs: allBytes / input.rates.deviceBytesPerMs,
    },
    bottleneck: bottleneckOf(best.time),
    uniform: layerPlaces.map((where) => fasterOfUniform(where, input.model.numLayers, sequences, place)),
  };
}

/** Returns the formulas' input for a device. */
export function workInput(device: DeviceSpec, options: PlanOptions): LayerWorkInput {
  const { model, context, weights = null, kvFormat = 'f16', reads = 'widest', host, calibration = {} } = options;
  const { selector = {} } = options;
  return {
    model,
    context,
    kvFormat,
    reads: retrievalReads(reads, { model, context, selector }),
    weightsBytes: weightBytes(model, weights),
    rates: machineRates(device, host, calibration),
  };
}

/** Returns the device memory of the placement that takes least of it, of those that the host has room for; null when it has for none. */
export function leastDeviceBytes(options: PlanOptions): number | null {
  const input = workInput(options.devices[0]!, options);
  let least: number | null = null;
  for (const placement of enumeratePlacements(input.model.numLayers, 1)) {
    const memory = placedMemory({ ...input, placement, numSequences: options.sequences });
    if (totalBytes(memory.host) > options.host.memoryBytes) continue;
    least = Math.min(least ?? Number.POSITIVE_INFINITY, totalBytes(memory.device));
  }
  return least;
}

function fits(memory: PlacedMemory, device: DeviceSpec, host: HostSpec): boolean {
  return totalBytes(memory.device) <= device.memoryBytes && totalBytes(memory.host) <= host.memoryBytes;
}

function fasterOfUniform(
  where: LayerPlace,
  numLayers: number,
  sequences: number,
  place: (placement: Placement) => PlacedStep,
): PlacedStep {
  const layers = { device: 0, hybrid: 0, host: 0, [where]: numLayers };
  const one = place({ layers, microBatches: 1 });
  const two = sequences > 1 ? place({ layers, microBatches: 2 }) : one;
  return two.time.totalMs < one.time.totalMs ? two : one;
}

function doesNotFit(options: PlanOptions): CtkvrError {
  const { context, sequences, devices, host } = options;
  const neededBytes = leastDeviceBytes(options);
  const largest = Math.max(...devices.map(({ memoryBytes }) => memoryBytes));
  const what =
    sequences === 1 ? `a sequence of ${context} tokens does` : `${sequences} sequences of ${context} tokens do`;
  const why =
    neededBytes === null || neededBytes <= largest
      ? `the host's ${gigabytes(host.memoryBytes)} are too few for what the device has no room for`
      : `at least ${gigabytes(neededBytes)} are needed on the device, got ${gigabytes(largest)}`;
  return new CtkvrError('CTKVR_OUT_OF_MEMORY', `plan: ${what} not fit: ${why}`, {
    fields: { neededBytes, deviceBytes: largest, hostBytes: host.memoryBytes, context, sequences },
    remedy: 'take smaller weights, kvFormat q8, a shorter context, fewer sequences or more memory',
  });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
