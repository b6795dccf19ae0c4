/** Hides sentences in a long text, between its paragraphs. */

export interface HiddenFacts {
  readonly text: string;
  /** Where each fact begins, in characters of `text`; in the order given. */
  readonly at: readonly number[];
}

/**
 * Returns `text` with each fact as a paragraph of its own, at the paragraph boundary nearest to its depth (0 = beginning, 1 = end).
 * A text of one paragraph gets them at its end.
 */
export function hideFacts(
  text: string,
  facts: readonly { readonly fact: string; readonly depth: number }[],
): HiddenFacts {
  const boundaries = [...text.matchAll(/\n\n/g)].map(({ index }) => index);
  const placed = facts
    .map(({ fact, depth }, order) => ({ fact, order, boundary: nearest(boundaries, text.length * depth, text.length) }))
    .sort((a, b) => a.boundary - b.boundary);
  const at: number[] = [];
  let hidden = '';
  let done = 0;
  for (const { fact, order, boundary } of placed) {
    hidden += `${text.slice(done, boundary)}\n\n`;
    at[order] = hidden.length;
    hidden += fact;
    done = boundary;
  }
  return { text: hidden + text.slice(done), at };
}

function nearest(boundaries: readonly number[], target: number, end: number): number {
  let best = end;
  for (const boundary of boundaries) if (Math.abs(boundary - target) < Math.abs(best - target)) best = boundary;
  return best;
}
