/** Neighbouring passages that were read most, as one quote of the document. */
export interface Quote {
  /** The one read most, to which a click leads. */
  readonly passage: number;
  readonly text: string;
  /** Share of all that was read in the document, 0 to 1. */
  readonly share: number;
}

/** Most passages of one quote. */
const MAX_PASSAGES = 4;

/** A place with less of the first one's share is not worth a look. */
const LEAST_OF_FIRST = 1 / 10;

/** Returns up to `count` places that were read most, most first. */
export function mostRead(shares: Float64Array, passages: readonly string[], count: number): Quote[] {
  const total = shares.reduce((a, b) => a + b, 0);
  const byShare = Array.from(shares.keys()).sort((a, b) => shares[b]! - shares[a]!);
  const taken = new Set<number>();
  const quotes: Quote[] = [];
  for (const passage of byShare) {
    const share = shares[passage]!;
    if (quotes.length === count || share === 0 || share < shares[byShare[0]!]! * LEAST_OF_FIRST) break;
    if (taken.has(passage)) continue;
    const place = growPlace(passage, shares, taken);
    for (const member of place) taken.add(member);
    const text = place
      .map((member) => passages[member])
      .join('')
      .replace(/\s+/g, ' ')
      .trim();
    quotes.push({ passage, text, share: place.reduce((sum, member) => sum + shares[member]!, 0) / total });
  }
  return quotes;
}

/** A passage and those around it that have at least a third of its share, ascending. */
function growPlace(passage: number, shares: Float64Array, taken: ReadonlySet<number>): number[] {
  const place = [passage];
  const belongs = (at: number) => (shares[at] ?? 0) * 3 >= shares[passage]! && !taken.has(at);
  while (place.length < MAX_PASSAGES) {
    if (belongs(place[0]! - 1)) place.unshift(place[0]! - 1);
    else if (belongs(place.at(-1)! + 1)) place.push(place.at(-1)! + 1);
    else break;
  }
  return place;
}
