/** Checks of rows of keys, values and queries. */
import { CtkvrError, checkFinite, checkLength } from '@ctkvr/core';

/**
 * Returns how many tokens there are: keys and values must agree, queries hold whole rows.
 * @param input.least how many tokens and queries there must be at least.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH.
 */
export function checkRows(input: {
  readonly op: string;
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly queries: Float32Array;
  readonly headDim: number;
  readonly groupSize: number;
  readonly least: number;
}): number {
  const { op, keys, values, headDim, groupSize, least } = input;
  const numTokens = countRows({
    op,
    numbers: keys.length,
    rowLength: headDim,
    name: 'keys',
    shape: 'numTokens, headDim',
    least,
  });
  checkLength(values.length, keys.length, {
    op,
    name: 'values',
    shape: `[numTokens, headDim] = [${numTokens}, ${headDim}]`,
  });
  const rowLength = groupSize * headDim;
  countRows({ op, numbers: input.queries.length, rowLength, name: 'queries', shape: 'n, groupSize, headDim', least });
  return numTokens;
}

/** Returns how many tokens are appended, each with its query. @throws {CtkvrError} CTKVR_SHAPE_MISMATCH, CTKVR_NON_FINITE. */
export function checkAppended(input: Omit<Parameters<typeof checkRows>[0], 'least'>): number {
  const { op, keys, values, queries, headDim, groupSize } = input;
  const numTokens = checkRows({ ...input, least: 0 });
  const shape = `[numTokens, groupSize, headDim] = [${numTokens}, ${groupSize}, ${headDim}]`;
  checkLength(queries.length, numTokens * groupSize * headDim, { op, name: 'queries', shape });
  for (const [name, numbers] of Object.entries({ keys, values, queries })) checkFinite(numbers, { op, name });
  return numTokens;
}

function countRows(of: {
  readonly op: string;
  readonly numbers: number;
  readonly rowLength: number;
  readonly name: string;
  readonly shape: string;
  readonly least: number;
}): number {
  const count = of.numbers / of.rowLength;
  if (Number.isInteger(count) && count >= of.least) return count;
  throw new CtkvrError(
    'CTKVR_SHAPE_MISMATCH',
    `${of.op}: ${of.name} must hold a whole number, at least ${of.least}, of rows [${of.shape}] of ${of.rowLength} numbers, got ${of.numbers} numbers; check headDim and groupSize`,
    { fields: { op: of.op, argument: of.name, rowLength: of.rowLength, actual: of.numbers } },
  );
}
