/** An answer about the lighthouse log, token by token, with what a model could have read for each. */

/** Texts of the tokens. */
export const answerTokens =
  'The lamp| failed| at| **|2|:|20| a|.m|.|**| on| 14| March|,| in| a| north|-w|ester|ly| gale|.| Salt| water| came| in| through| a| cracked| pane| and| f|ouled| the| burner|.\n\n|1|.| The| keeper| and| his| son| trimmed| a| spare| wick| by| hand|.\n|2|.| The| light| was| shown| again| after| **|forty| minutes|**|.\n|3|.| The| pane| was| replaced| at| daybreak|.'.split(
    '|',
  );

/**
 * Pairs of a passage and its share for the token that comes `at` that place, as the server sends them: most goes to the first passage, some to
 * the passages of the failure, one after the other, the rest is spread thinly.
 */
export function readMapAt(at: number, passages: readonly string[]): [number, number][] {
  const failure = passages.findIndex((text) => text.includes('lamp went'));
  const read = failure + (at < 40 ? 0 : at < 56 ? 1 : 2);
  const shares = new Map<number, number>([[0, 0.55]]);
  const add = (passage: number, share: number) => {
    if (passage >= 0) shares.set(passage, (shares.get(passage) ?? 0) + share);
  };
  add(read, 0.14);
  add(read + 1, 0.04);
  for (let i = 1; i <= 6; i++) add(1 + ((at * 37 + i * 101) % (passages.length - 1)), 0.011 / i);
  add(passages.length, 0.08);
  return [...shares].sort(([a], [b]) => a - b);
}
