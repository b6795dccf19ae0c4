/** What the options of a session and of its calls take. */
import { kvFormats, type OptionChecks, takes } from '@ctkvr/core';
import { samplingNames } from './sampling-options.js';
import type {
  AdmitOptions,
  ForcedOptions,
  GenerateOptions,
  PrefillOptions,
  PrefixCacheUse,
  SessionOptions,
} from './session-types.js';

const MAX_TOKENS = 0x7fff_ffff;

const signal = takes.optional(takes.abortSignal);
const flag = takes.optional(takes.boolean);
const callback = takes.optional(takes.func);
const tokens = takes.optional(takes.integer(1, MAX_TOKENS));

export const sessionChecks: OptionChecks<SessionOptions> = {
  contextLength: takes.anything, // bounded by the model
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.optional(takes.object),
  prefixCache: takes.optional(takes.object),
};

export const prefixCacheChecks: OptionChecks<PrefixCacheUse> = {
  namespace: takes.optional(takes.text),
  lookUp: flag,
};

export const admitChecks: OptionChecks<AdmitOptions> = {
  ...sessionChecks,
  promptLength: takes.integer(0, MAX_TOKENS),
  signal,
  onWait: callback,
};

export const prefillChecks: OptionChecks<PrefillOptions> = {
  onProgress: callback,
  signal,
  addGenerationPrompt: flag,
  buildIndex: flag,
};

export const generateChecks: OptionChecks<GenerateOptions> = {
  maxTokens: tokens,
  sampling: takes.optional(takes.object),
  signal,
  stop: takes.anything, // a text or several: stop-option.ts
  ignoreEndOfTurn: flag,
  grammar: takes.optional(takes.object),
  logitBias: takes.optional(takes.object),
  logits: flag,
  audit: flag,
  readMap: flag,
};

/** For callers that write `temperature` beside `sampling`. */
export const nestedInGenerate = { sampling: samplingNames };

export const forcedChecks: OptionChecks<ForcedOptions> = { signal, numTokens: tokens, audit: flag };

export const signalChecks = { signal };
