/** Neighbouring passages that were read most, as one quote of the document. */
export interface Quote {
  /** The one read most, to which a click leads. */
  readonly passage: number;
  readonly text: string;
  /** Share of all that was read in the document, 0 to 1. */
  readonly share: number;
}

/** Returns the `count` places read most, most first. A hot passage's neighbours belong to it when they have a third of its share. */
export function mostRead(shares: Float64Array, passages: readonly string[], count: number): Quote[] {
  const total = shares.reduce((a, b) => a + b, 0);
  const byShare = Array.from(shares.keys()).sort((a, b) => shares[b]! - shares[a]!);
  const taken = new Set<number>();
  const quotes: Quote[] = [];
  for (const passage of byShare) {
    const share = shares[passage]!;
    if (quotes.length === count || share === 0) break;
    if (taken.has(passage)) continue;
    const belongs = (at: number) => at >= 0 && at < shares.length && !taken.has(at) && shares[at]! * 3 >= share;
    const from = belongs(passage - 1) ? passage - 1 : passage;
    const to = belongs(passage + 1) ? passage + 1 : passage;
    let sum = 0;
    for (let at = from; at <= to; at++) {
      taken.add(at);
      sum += shares[at]!;
    }
    const text = passages
      .slice(from, to + 1)
      .join('')
      .replace(/\s+/g, ' ')
      .trim();
    quotes.push({ passage, text, share: sum / total });
  }
  return quotes;
}
