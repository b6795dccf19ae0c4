/** How long the device and the CPU work on one layer of one micro-batch, by part. */
import { type CpuWork, cpuMs } from './cpu-ms.js';
import type { MachineRates } from './machine-spec.js';
import { countHeads } from './model-shape.js';
import type { LayerPlace } from './placement.js';
import { clusterCount, type ReadBytesInput, type ReadPart, readBytes, totalBytes } from './read-bytes.js';
import { retrievalKeys, splitHeads } from './retrieval-reads.js';

/** Parts of a step's time, in the order in which they are shown. */
export const workParts = [
  'weights',
  'window',
  'retrievalHeads',
  'index',
  'candidates',
  'values',
  'launches',
  'sampling',
] as const;
export type WorkPart = (typeof workParts)[number];
/** Milliseconds by part; parts that are not named take none. */
export type Work = Readonly<Partial<Record<WorkPart, number>>>;

export interface LayerWork {
  readonly device: Work;
  readonly deviceMs: number;
  /** null where the CPU has nothing to do, and there is no hop. */
  readonly host: Work | null;
  readonly hostMs: number;
}

export interface LayerWorkInput extends ReadBytesInput {
  readonly rates: MachineRates;
  /** Of all layers. */
  readonly weightsBytes: number;
}

/** Share of the device's bandwidth that reads of keys, values and clusters reach: an assumption. Weights, in one row, reach all of it. */
const KEYS_SHARE = 0.75;
/** A layer's kernels beyond their bytes: some 11 launches in a graph. An assumption. */
const LAUNCHES_MS = 0.02;
/** After the last layer: sampling, the host's turn. An assumption. */
export const SAMPLING_MS = 0.3;

const onDevice: Readonly<Record<LayerPlace, readonly ReadPart[]>> = {
  device: ['window', 'retrievalHeads', 'index', 'candidates', 'values'],
  hybrid: ['window', 'retrievalHeads', 'index'],
  host: [],
};

/** Returns the work of one layer for a micro-batch of `numSequences`. */
export function layerWork(place: LayerPlace, numSequences: number, input: LayerWorkInput): LayerWork {
  const { rates, model, weightsBytes } = input;
  const bytes = readBytes(input);
  const share = numSequences / model.numLayers;
  const device: Partial<Record<WorkPart, number>> = {
    weights: weightsBytes / model.numLayers / rates.deviceBytesPerMs,
    launches: LAUNCHES_MS,
  };
  for (const part of onDevice[place]) device[part] = (share * bytes[part]) / (KEYS_SHARE * rates.deviceBytesPerMs);
  const deviceMs = workMs(device);
  if (place === 'device') return { device, deviceMs, host: null, hostMs: 0 };
  const cpu = place === 'hybrid' ? hybridCpuWork(input) : hostCpuWork(input);
  const ms = share * cpuMs(cpu, rates);
  return { device, deviceMs, host: byBytes(ms, bytes, place), hostMs: ms };
}

/** Milliseconds of all parts together. */
export function workMs(work: Work): number {
  return Object.values(work).reduce((sum, ms) => sum + ms, 0);
}

/** Of one sequence and all layers: the candidates of all heads but the retrieval heads. */
function hybridCpuWork(input: ReadBytesInput): CpuWork {
  const { candidates, values } = readBytes(input);
  const { plain } = splitHeads(countHeads(input.model), input.reads);
  return {
    bytes: candidates + values,
    keys: plain * input.reads.candidates,
    clusters: 0,
    headDim: input.model.headDim,
  };
}

/** Of one sequence and all layers: everything. */
function hostCpuWork(input: ReadBytesInput): CpuWork {
  const { model, context, reads } = input;
  const heads = countHeads(model);
  const { retrieval, plain } = splitHeads(heads, reads);
  return {
    bytes: totalBytes(readBytes(input)),
    keys: plain * reads.candidates + retrieval * retrievalKeys(context, reads),
    clusters: heads * clusterCount(context, reads),
    headDim: model.headDim,
  };
}

/** Divides the CPU's time over the parts that it reads. */
function byBytes(ms: number, bytes: Readonly<Record<ReadPart, number>>, place: LayerPlace): Work {
  const parts = onDevice.device.filter((part) => !onDevice[place].includes(part));
  const all = parts.reduce((sum, part) => sum + bytes[part], 0);
  return Object.fromEntries(parts.map((part) => [part, all === 0 ? 0 : (ms * bytes[part]) / all]));
}
