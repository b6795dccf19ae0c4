/** Hides a sentence in a long text, between two paragraphs. */

export interface HiddenFact {
  readonly text: string;
  /** Where the fact begins, in characters of `text`. */
  readonly at: number;
}

/**
 * Returns `text` with `fact` as a paragraph of its own, at the paragraph boundary nearest to `depth` (0 = beginning, 1 = end).
 * A text of one paragraph gets it at its end.
 */
export function hideFact(text: string, fact: string, depth: number): HiddenFact {
  const target = text.length * depth;
  let at = text.length;
  for (const { index } of text.matchAll(/\n\n/g)) {
    if (Math.abs(index - target) < Math.abs(at - target)) at = index;
  }
  return { text: `${text.slice(0, at)}\n\n${fact}${text.slice(at)}`, at: at + 2 };
}
