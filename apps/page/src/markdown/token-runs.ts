/** Letters of a text that came with one token of the answer. */
export interface TokenRun {
  readonly token: number;
  readonly text: string;
}

/** Letters of the source that one text may be searched in: more would let a text that was changed run away with all that follows. */
const MAX_SKIPPED = 500;

/**
 * Finds out which token each letter of a rendered answer came with. Markdown takes letters away (`**`, link targets) but keeps their
 * order, so each text is looked for behind the one before it.
 * @param tokens texts of the answer's tokens; joined, they are the Markdown source
 * @param texts of the rendered answer, in order
 * @returns runs for each text; joined, they are that text
 */
export function tokenRuns(tokens: readonly string[], texts: readonly string[]): TokenRun[][] {
  const source = tokens.join('');
  const ends: number[] = [];
  for (const token of tokens) ends.push((ends.at(-1) ?? 0) + token.length);
  let at = 0; // in the source
  let token = 0; // that the last letter came with
  /** Moves on to the letters' place, if they have one. */
  const find = (letters: string): boolean => {
    const found = source.slice(at, at + MAX_SKIPPED + letters.length).indexOf(letters);
    if (found >= 0) at += found;
    return found >= 0;
  };
  return texts.map((text) => {
    const runs: { token: number; text: string }[] = [];
    const whole = find(text);
    for (const letter of text) {
      if (whole || find(letter)) {
        while (token < ends.length - 1 && ends[token]! <= at) token += 1;
        at += letter.length;
      }
      const last = runs.at(-1);
      if (last?.token === token) last.text += letter;
      else runs.push({ token, text: letter });
    }
    return runs;
  });
}
