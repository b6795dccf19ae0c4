/** Numbers from their texts. Errors say what an option takes. */
import { InvalidArgumentError } from 'commander';

/** Returns a parser of integers from `min` to `max`. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text.trim()) || value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
      throw new InvalidArgumentError(`It must be an integer ${range}.`);
    }
    return value;
  };
}

/** Returns a parser of numbers from `min` to `max`. */
export function decimal(min: number, max: number): (text: string) => number {
  return numberThat(`from ${min} to ${max}`, (value) => value >= min && value <= max);
}

/** A parser of numbers above 0. */
export const positive = numberThat('above 0', (value) => value > 0);

function numberThat(range: string, isRight: (value: number) => boolean): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || !isRight(value)) {
      throw new InvalidArgumentError(`It must be a number ${range}.`);
    }
    return value;
  };
}
