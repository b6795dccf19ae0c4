/** Comparison of id lists where rounding may decide: an id may be exchanged for another only if their scores are within the budget. */
import { expect } from 'vitest';

/**
 * Expects `actual` and `expected` to be the same set, up to swaps of ids whose scores differ by less than `relative` of the smaller one.
 * With a budget of 0 the sets must be equal.
 * @param input.scoreOf score by which ids were chosen, as the oracle has it.
 */
export function expectSameIds(input: {
  readonly actual: Iterable<number>;
  readonly expected: Iterable<number>;
  readonly scoreOf: (id: number) => number;
  readonly relative: number;
  readonly what: string;
}): void {
  const actual = [...input.actual];
  const expected = [...input.expected];
  expect(actual.length, `${input.what}: number of ids`).toBe(expected.length);
  const missing = expected.filter((id) => !actual.includes(id));
  const extra = actual.filter((id) => !expected.includes(id));
  expect(missing.length, `${input.what}: repeated ids in ${actual.join(' ')}`).toBe(extra.length);
  if (missing.length === 0) return;
  const lowestExtra = Math.min(...extra.map(input.scoreOf));
  const highestMissing = Math.max(...missing.map(input.scoreOf));
  const message = `${input.what}: ${extra.join(' ')} taken instead of ${missing.join(' ')}`;
  // Equal scores are ties: the smaller id had to win, so a swap among them is wrong, not rounding.
  expect(lowestExtra === highestMissing, `${message}, against the tie rule`).toBe(false);
  expect(highestMissing - lowestExtra, message).toBeLessThanOrEqual(input.relative * Math.abs(highestMissing));
}
