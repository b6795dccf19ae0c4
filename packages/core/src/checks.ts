/**
 * Argument checks shared by the packages, so that the same mistake gives the same code and the same sentence everywhere. They look at
 * lengths and finiteness only. Types and names of options: option-checks.ts.
 */
import { CtkvrError } from './errors.js';

/** Where a checked value belongs, for the message. */
export interface CheckedArgument {
  /** The function that was called. */
  readonly op: string;
  /** The argument's name. */
  readonly name: string;
}

/**
 * Passes when `length` is exactly `expected`.
 * @param argument `shape` spells the shape out, such as `[numTokens, headDim] = [100, 64]`.
 * @throws {CtkvrError} CTKVR_SHAPE_MISMATCH with fields op, argument, expected, actual.
 */
export function checkLength(
  length: number,
  expected: number,
  argument: CheckedArgument & { readonly shape: string },
): void {
  if (length === expected) return;
  const { op, name, shape } = argument;
  throw new CtkvrError(
    'CTKVR_SHAPE_MISMATCH',
    `${op}: ${name} must hold ${expected} numbers, ${shape}, got ${length}; check headDim and groupSize, or pass a subarray`,
    { fields: { op, argument: name, expected, actual: length } },
  );
}

/** Passes when an output buffer of `length` has room for `needed`. @throws {CtkvrError} CTKVR_SHAPE_MISMATCH. */
export function checkCapacity(length: number, needed: number, { op, name }: CheckedArgument): void {
  if (length >= needed) return;
  throw new CtkvrError(
    'CTKVR_SHAPE_MISMATCH',
    `${op}: ${name} has room for ${length} numbers, ${needed} are needed; allocate it at least that long`,
    { fields: { op, argument: name, expected: needed, actual: length } },
  );
}

/** Passes when no value is NaN or infinite. Reads every value. @throws {CtkvrError} CTKVR_NON_FINITE with the first bad index. */
export function checkFinite(values: Float32Array, { op, name }: CheckedArgument): void {
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) continue;
    throw new CtkvrError(
      'CTKVR_NON_FINITE',
      `${op}: ${name} must hold finite numbers, got ${values[i]} at index ${i}; look for an overflow or an uninitialised buffer before it`,
      { fields: { op, argument: name, index: i } },
    );
  }
}

/** Passes when `value` is an integer in [min, max]. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkInteger(
  value: unknown,
  { op, name, min, max }: CheckedArgument & { readonly min: number; readonly max: number },
): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `${op}: ${name} must be an integer from ${min} to ${max}, got ${String(value)}`,
    { fields: { op, option: name, min, max, actual: String(value) } },
  );
}
