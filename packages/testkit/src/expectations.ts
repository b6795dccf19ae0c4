/** What suites expect of errors and numbers. */
import { CtkvrError } from '@ctkvr/core';
import { expect } from 'vitest';

/** Expects `run` to reject with a CtkvrError of this code. */
export async function expectCode(code: string, run: () => Promise<unknown>): Promise<void> {
  const thrown = await run().then(
    () => 'nothing was thrown',
    (error: unknown) => (CtkvrError.isInstance(error) ? error.code : error),
  );
  expect(thrown).toBe(code);
}

/** Expects numbers equal up to `budget`; infinities must be equal. */
export function expectNear(actual: readonly number[], expected: readonly number[], budget: number, what: string): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  actual.forEach((x, i) => {
    if (x === expected[i]) return;
    expect(Math.abs(x - expected[i]!), `${what}[${i}] is ${x}, expected ${expected[i]}`).toBeLessThanOrEqual(budget);
  });
}
