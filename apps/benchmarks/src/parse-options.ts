/** Option values from their texts. */
import { InvalidArgumentError } from 'commander';

export function positiveInteger(value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError('it must be a whole number above 0');
  return number;
}

export function wholeNumber(value: string): number {
  return value.trim() === '0' ? 0 : positiveInteger(value);
}
