/** The check of a real-valued option, beside the integer check of @ctkvr/core. */
import { type CheckedArgument, CtkvrError } from '@ctkvr/core';

/**
 * Passes when `value` is a finite number >= `atLeast`, or > `above`, whichever is given.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION with fields op, option, min, actual.
 */
export function checkNumber(
  value: unknown,
  bound: CheckedArgument & ({ readonly atLeast: number } | { readonly above: number }),
): void {
  const [min, sign] = 'above' in bound ? [bound.above, '>'] : [bound.atLeast, '>='];
  if (typeof value === 'number' && Number.isFinite(value) && (value > min || (sign === '>=' && value === min))) return;
  const { op, name } = bound;
  throw new CtkvrError('CTKVR_INVALID_OPTION', `${op}: ${name} must be a number ${sign} ${min}, got ${String(value)}`, {
    fields: { op, option: name, min, actual: String(value) },
  });
}
