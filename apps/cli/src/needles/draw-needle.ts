/** Which numbers are hidden where: drawn at random, so that no trial is hand-picked, and replayed by the seed. */
import { createHash } from 'node:crypto';
import { lighthousePlaces } from './lighthouse.js';

export interface Needle {
  /** Six digits. */
  readonly number: number;
  /** Of the text, 0 = its beginning, 1 = its end. */
  readonly depth: number;
  /** Whose number it is; null when there is one only. */
  readonly place: string | null;
}

/** Returns one needle, at a depth of 0.2 to 0.8, that depends on `seed` and `trial` alone. */
export function drawNeedle(seed: number, trial: number): Needle {
  const draw = uniforms(`${seed}:${trial}`);
  return { number: sixDigits(draw[0]!), depth: 0.2 + 0.6 * draw[1]!, place: null };
}

/**
 * Returns `count` needles for one prompt, by depth: one in each of as many equal parts of the text, each with another place and number.
 * They depend on `seed` and `prompt` alone.
 * @param count from 2 to the number of places.
 */
export function drawNeedles(seed: number, prompt: number, count: number): Needle[] {
  const places = lighthousePlaces
    .map((place) => ({ place, order: uniforms(`${seed}:${prompt}:${place}`)[0]! }))
    .sort((a, b) => a.order - b.order);
  const numbers = new Set<number>();
  for (let draw = 0; numbers.size < count; draw++) numbers.add(sixDigits(uniforms(`${seed}:${prompt}:${draw}`)[0]!));
  return [...numbers].map((number, i) => ({
    number,
    depth: (i + uniforms(`${seed}:${prompt}:${i}`)[1]!) / count,
    place: places[i]!.place,
  }));
}

/** Two numbers from 0 to 1 that depend on the text alone. */
function uniforms(text: string): readonly number[] {
  const bytes = createHash('sha256').update(text).digest();
  return [0, 4].map((at) => bytes.readUInt32LE(at) / 2 ** 32);
}

function sixDigits(uniform: number): number {
  return 100_000 + Math.floor(uniform * 900_000);
}
