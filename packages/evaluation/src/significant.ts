/** Rounds for JSON: what is measured has no more than `digits` significant ones. */
export function significant(value: number, digits = 4): number {
  return Number.isFinite(value) ? Number(value.toPrecision(digits)) : value;
}
