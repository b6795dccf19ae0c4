/** Which number is hidden where: drawn, so that no trial is chosen to please, and replayed by its seed. */
import { createHash } from 'node:crypto';

/** Returns a number of six digits and a depth of 0.2 to 0.8 that depend on `seed` and `trial` alone. */
export function drawNeedle(seed: number, trial: number): { readonly number: number; readonly depth: number } {
  const bytes = createHash('sha256').update(`${seed}:${trial}`).digest();
  const uniform = (at: number) => bytes.readUInt32LE(at) / 2 ** 32;
  return { number: 100_000 + Math.floor(uniform(0) * 900_000), depth: 0.2 + 0.6 * uniform(4) };
}
