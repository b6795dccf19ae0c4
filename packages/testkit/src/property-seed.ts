/** Seeds of property tests: a fresh one each run, printed when a property fails, and taken from CTKVR_TEST_SEED to replay it. */

/**
 * Returns parameters for fast-check's `assert`: the seed to run with. A failure's message from fast-check names the seed and the path;
 * `CTKVR_TEST_SEED=<seed> npx vitest run <file>` runs the same inputs again.
 */
export function propertyParameters(numRuns: number): { seed: number; numRuns: number; verbose: 1 } {
  const given = Number(process.env.CTKVR_TEST_SEED);
  const seed = Number.isInteger(given) && process.env.CTKVR_TEST_SEED ? given : Date.now() & 0x7fff_ffff;
  return { seed, numRuns, verbose: 1 };
}
