/** Checks of candidates. */
import { CtkvrError, type IndexedRegion } from '@ctkvr/core';

/** @throws {CtkvrError} CTKVR_INVALID_OPTION when they do not ascend, repeat, or lie outside the indexed region. */
export function checkCandidates(candidates: Uint32Array, { start, end }: IndexedRegion, op: string): void {
  const wrong = candidates.findIndex((p, i) => p < start || p >= end || (i > 0 && p <= candidates[i - 1]!));
  if (wrong < 0) return;
  const expected = `ascending, from ${start} to below ${end}`;
  const actual = candidates[wrong]!;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `${op}: candidates must be ${expected}, got ${actual} at ${wrong}; pass a subarray when the buffer is longer than the list`,
    { fields: { op, option: 'candidates', expected, actual } },
  );
}
