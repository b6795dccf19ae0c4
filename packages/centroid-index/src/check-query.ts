/** The check of a query that every backend's methods make. */
import { checkFinite, checkLength, checkOption, takes } from '@ctkvr/core';

/** @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE. */
export function checkQuery(
  query: Float32Array,
  { op, groupSize, headDim }: { readonly op: string; readonly groupSize: number; readonly headDim: number },
): void {
  checkOption(op, 'query', query, takes.float32);
  const shape = `[groupSize, headDim] = [${groupSize}, ${headDim}]`;
  checkLength(query.length, groupSize * headDim, { op, name: 'query', shape });
  checkFinite(query, { op, name: 'query' });
}
