/**
 * When an index grows, and from which queries (docs/design/retrieval.md). Depends on positions and phase alone: the same tokens give
 * the same index however they were split into calls.
 */

import { CtkvrError } from '@ctkvr/core';

/** Where an appended token comes from: read as part of a prompt, or generated. */
export type Phase = 'prefill' | 'decode';

/** @throws {CtkvrError} CTKVR_INVALID_OPTION for anything else. */
export function checkPhase(phase: unknown, op: string): void {
  if (phase === 'prefill' || phase === 'decode') return;
  const fields = { op, option: 'phase', actual: String(phase) };
  throw new CtkvrError('CTKVR_INVALID_OPTION', `${op}: phase must be 'prefill' or 'decode', got '${phase}'`, {
    fields,
  });
}

/** Generated positions that are multiples of this keep their query: neighbours add little. */
const decodeStride = 4;

/** Returns whether the query of an appended position may become a centroid. */
export function keepsQuery(position: number, phase: Phase): boolean {
  return phase === 'prefill' || position % decodeStride === 0;
}

/** Returns the first number of tokens above `numTokens` at which generated tokens make the index grow. */
export function nextGrowth(of: {
  readonly builtAt: number;
  readonly numTokens: number;
  readonly appendSize: number;
}): number {
  const { builtAt, numTokens, appendSize } = of;
  return builtAt + (Math.floor((numTokens - builtAt) / appendSize) + 1) * appendSize;
}
