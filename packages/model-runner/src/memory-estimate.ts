/**
 * What a session will need at most, so that a context that memory cannot hold is refused before anything is allocated. The engine knows
 * its layouts and says; nothing is derived here.
 */
import {
  CtkvrError,
  checkOptions,
  type KvFormat,
  kvFormats,
  type OptionChecks,
  type SelectorOptions,
  takes,
} from '@ctkvr/core';
import { loadBinding, type NativeModelInfo } from '@ctkvr/native';

/** What it takes of a model; `model.info` has it. */
export type AttentionSizes = Pick<
  NativeModelInfo,
  'numLayers' | 'numQueryHeads' | 'numKvHeads' | 'headDim' | 'localLayers'
>;

export interface MemoryEstimate {
  readonly kvBytes: number;
  readonly indexBytes: number;
}

export interface MemoryEstimateInput {
  readonly info: AttentionSizes;
  /** Tokens of the full context. */
  readonly contextLength: number;
  /** Tokens stored in it. Default: as many as it holds. */
  readonly numTokens?: number;
  /** Default 'f16'. */
  readonly kvFormat?: KvFormat;
  readonly selector: SelectorOptions;
}

const MAX_TOKENS = 0x7fff_ffff;
const memoryEstimateChecks: OptionChecks<MemoryEstimateInput> = {
  info: takes.object,
  contextLength: takes.integer(0, MAX_TOKENS),
  numTokens: takes.optional(takes.integer(0, MAX_TOKENS)),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.object,
};

/**
 * Returns bytes of keys, values and index of one session, at most. @throws {CtkvrError} CTKVR_INVALID_OPTION; CTKVR_NATIVE_UNAVAILABLE without
 * the native engine.
 */
export function estimateMemory(input: MemoryEstimateInput): MemoryEstimate {
  checkOptions('estimateMemory', input, memoryEstimateChecks);
  return ask(input);
}

function ask({ info, ...question }: MemoryEstimateInput): MemoryEstimate {
  const { numLayers, numQueryHeads, numKvHeads, headDim, localLayers } = info;
  const sizes = { numLayers, numQueryHeads, numKvHeads, headDim, ...(localLayers ? { localLayers } : {}) };
  return loadBinding().memoryNeed({ ...sizes, ...question });
}

/** Returns the bytes of both together. */
export function neededBytes(input: MemoryEstimateInput): number {
  const { kvBytes, indexBytes } = ask(input);
  return kvBytes + indexBytes;
}

/** Returns the most tokens, up to `contextLength`, of a session that fits in so many bytes; 0 when none does. */
export function longestContext(input: MemoryEstimateInput, freeBytes: number): number {
  const fits = (contextLength: number) => neededBytes({ ...input, contextLength }) <= freeBytes;
  if (fits(input.contextLength)) return input.contextLength;
  let [longest, tooLong] = [0, input.contextLength];
  while (tooLong - longest > 1) {
    const middle = Math.floor((longest + tooLong) / 2);
    if (fits(middle)) longest = middle;
    else tooLong = middle;
  }
  return longest;
}

/**
 * Passes when a session fits in memory beside what other sessions may still allocate.
 * @param input availableBytes: what may still be allocated, and what the session shares with another.
 * @throws {CtkvrError} CTKVR_OUT_OF_MEMORY with the numbers and the longest context that fits.
 */
export function checkMemory(
  input: MemoryEstimateInput & { readonly availableBytes: number; readonly reservedBytes: number },
): void {
  const { availableBytes, reservedBytes, ...need } = input;
  const { contextLength } = need;
  const { kvBytes, indexBytes } = ask(need);
  const freeBytes = Math.max(0, availableBytes - reservedBytes);
  if (kvBytes + indexBytes <= freeBytes) return;
  const fits = longestContext(need, freeBytes);
  throw new CtkvrError(
    'CTKVR_OUT_OF_MEMORY',
    `a context of ${contextLength} tokens needs ${mib(kvBytes)} of keys and values and up to ${mib(indexBytes)} of index; ` +
      `${mib(freeBytes)} are free${reservedBytes > 0 ? ` (beside ${mib(reservedBytes)} promised to open sessions)` : ''}. ` +
      (fits > 0 ? `A context of ${fits} tokens would fit.` : 'Free some memory or choose a smaller model.'),
    {
      fields: {
        contextLength,
        neededBytes: kvBytes + indexBytes,
        kvBytes,
        indexBytes,
        availableBytes,
        reservedBytes,
        fittingContextLength: fits,
      },
    },
  );
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
