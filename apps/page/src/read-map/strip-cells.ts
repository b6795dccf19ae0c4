/** A piece of the strip: as many neighbouring passages as it takes to draw the whole document in so many pieces. */
export interface StripCell {
  /** First passage. */
  readonly from: number;
  /** The hottest passage, to which a click leads. */
  readonly passage: number;
  /** Its heat, 0 to 1. */
  readonly heat: number;
}

/** Heats of passages as at most `maxCells` cells. A cell shows its hottest passage: a mean would hide single ones. */
export function stripCells(heats: Float64Array, maxCells: number): StripCell[] {
  const count = Math.min(maxCells, heats.length);
  return Array.from({ length: count }, (_, cell) => {
    const from = Math.floor((cell * heats.length) / count);
    const end = Math.floor(((cell + 1) * heats.length) / count);
    let passage = from;
    for (let i = from + 1; i < end; i++) if (heats[i]! > heats[passage]!) passage = i;
    return { from, passage, heat: heats[passage]! };
  });
}
