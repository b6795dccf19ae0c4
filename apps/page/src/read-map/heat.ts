/** Steps of the highlights' colours; 0 = not read. */
export const HEAT_LEVELS = 5;

/**
 * Heat of each passage, 0 to 1, relative to the one that was read most. The square root keeps what was read a little visible beside one
 * passage that was read a lot.
 */
export function heats(shares: Float64Array): Float64Array {
  const most = shares.reduce((a, b) => Math.max(a, b), 0);
  return most === 0 ? new Float64Array(shares.length) : shares.map((share) => Math.sqrt(share / most));
}

/** Heats in steps, 0 to HEAT_LEVELS. The lowest eighth of the scale is not shown: it would tint most of a text. */
export function heatLevel(heat: number): number {
  return heat < 1 / 8 ? 0 : Math.max(1, Math.ceil(heat * HEAT_LEVELS));
}
