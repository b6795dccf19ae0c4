/** The dense step that a plan is compared with: every key and value is read, all of them on the device. */
import { SAMPLING_MS } from './layer-work.js';
import type { DeviceSpec, MachineRates } from './machine-spec.js';
import type { ModelShape } from './model-shape.js';
import { RESERVED_BYTES } from './placed-memory.js';

export interface DenseStep {
  /** Whether the device has room for it; the time is of a device that has. */
  readonly fits: boolean;
  readonly deviceBytes: number;
  readonly totalMs: number;
}

export interface DenseStepInput {
  readonly model: ModelShape;
  readonly sequences: number;
  readonly weightsBytes: number;
  /** Of one sequence. */
  readonly keyValueBytes: number;
  readonly rates: Pick<MachineRates, 'deviceBytesPerMs'>;
}

/** Share of the bandwidth that long rows of keys and values reach, and a layer's kernels beyond their bytes. Assumptions. */
const KEYS_SHARE = 0.9;
const LAUNCHES_MS = 0.008;

/** Returns memory and time of a dense step. */
export function denseStep(device: DeviceSpec, input: DenseStepInput): DenseStep {
  const { model, sequences, weightsBytes, keyValueBytes, rates } = input;
  const deviceBytes = weightsBytes + RESERVED_BYTES + sequences * keyValueBytes;
  const readMs = (weightsBytes + (sequences * keyValueBytes) / KEYS_SHARE) / rates.deviceBytesPerMs;
  return {
    fits: deviceBytes <= device.memoryBytes,
    deviceBytes,
    totalMs: readMs + model.numLayers * LAUNCHES_MS + SAMPLING_MS,
  };
}
