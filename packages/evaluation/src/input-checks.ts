/** What the measurements take. */
import { kvFormats, type OptionChecks, takes } from '@ctkvr/core';
import type { DenseReferenceInput } from './dense-reference.js';
import type { FidelityInput } from './measure-fidelity.js';
import type { MeasureInput } from './measure-selector.js';
import type { TurnsInput } from './measure-turns.js';

const callback = takes.optional(takes.func);
const steps = takes.integer(1, 0x7fff_ffff);

export const fidelityChecks: OptionChecks<FidelityInput> = {
  model: takes.object,
  prompt: takes.object,
  numSteps: steps,
  contenders: takes.list,
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  indexBeforeQuestion: takes.boolean,
  signal: takes.abortSignal,
  onPrefill: callback,
  onStep: callback,
};

export const turnsChecks: OptionChecks<TurnsInput> = {
  model: takes.object,
  prompt: takes.object,
  questions: takes.list,
  numSteps: steps,
  contenders: takes.list,
  signal: takes.abortSignal,
  onPrefill: callback,
  onStep: callback,
};

export const measureChecks: OptionChecks<MeasureInput> = {
  model: takes.object,
  base: takes.object,
  question: takes.int32,
  selector: takes.object,
  reference: takes.object,
  signal: takes.abortSignal,
  onStep: callback,
};

export const denseReferenceChecks: OptionChecks<DenseReferenceInput> = {
  model: takes.object,
  base: takes.object,
  numSteps: steps,
  signal: takes.abortSignal,
  maxKeptBytes: takes.optional(takes.integer(0, Number.MAX_SAFE_INTEGER)),
  onStep: callback,
};
