/** What a plan is made of, and its checks. */
import {
  CtkvrError,
  checkOptions,
  fitsKvFormat,
  type KvFormat,
  kvFormats,
  type OptionChecks,
  takes,
} from '@ctkvr/core';
import {
  type Calibration,
  checkCalibration,
  checkDevice,
  checkHost,
  type DeviceSpec,
  type HostSpec,
} from './machine-spec.js';
import { checkModelShape, type ModelShape } from './model-shape.js';
import { type PlannedSelector, type ReadSetting, readSettings } from './retrieval-reads.js';
import { type WeightFormat, weightFormats } from './weight-bytes.js';

/** What is to run. */
export interface Workload {
  readonly model: ModelShape;
  /** Tokens stored of each sequence. Below 4,096 the engine decodes densely, and there is nothing to place. */
  readonly context: number;
  /** Sequences that decode together. */
  readonly sequences: number;
  /** Default: the bytes that `model` names, else f16. */
  readonly weights?: WeightFormat;
  /** Default 'f16'. */
  readonly kvFormat?: KvFormat;
  /** Default 'widest'. */
  readonly reads?: ReadSetting;
  /** What is not the default; of `reads` paper nothing is. */
  readonly selector?: PlannedSelector;
}

export interface PlanOptions extends Workload {
  /** Cards to choose from; a plan uses one. */
  readonly devices: readonly DeviceSpec[];
  readonly host: HostSpec;
  readonly calibration?: Calibration;
}

/** Below, the engine decodes densely. */
export const LEAST_CONTEXT = 4096;
const optionChecks: OptionChecks<PlanOptions> = {
  model: takes.object,
  context: takes.integer(LEAST_CONTEXT, 0x7fff_ffff),
  sequences: takes.integer(1, 1_000_000),
  weights: takes.optional(takes.oneOf(weightFormats)),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  reads: takes.optional(takes.oneOf(readSettings)),
  selector: takes.optional(takes.object),
  devices: takes.list,
  host: takes.object,
  calibration: takes.optional(takes.object),
};

/** Passes when every option is right, the sizes and machines inside them too. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkPlanOptions(op: string, options: PlanOptions): void {
  checkOptions(op, options, optionChecks);
  const { model, kvFormat = 'f16', devices, host, calibration = {} } = options;
  checkModelShape(op, model);
  checkHost(op, host);
  checkCalibration(op, calibration);
  for (const device of devices) checkDevice(op, device);
  if (devices.length === 0) throw invalid(op, 'devices', 'a list of at least one device', 'none');
  if (!fitsKvFormat(model.headDim, kvFormat)) {
    throw invalid(
      op,
      'kvFormat',
      'f16 where headDim is no multiple of 32',
      `${kvFormat} with headDim ${model.headDim}`,
    );
  }
  if (model.numQueryHeads % model.numKvHeads !== 0) {
    const actual = `${model.numQueryHeads} with ${model.numKvHeads} KV heads`;
    throw invalid(op, 'model.numQueryHeads', 'a multiple of model.numKvHeads', actual);
  }
}

function invalid(op: string, option: string, expected: string, actual: string): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `${op}: ${option} must be ${expected}, got ${actual}`, {
    fields: { op, option, expected, actual },
  });
}
