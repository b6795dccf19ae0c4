/** Tokens as the texts of passages: what a read map's shares belong to. */

/** What tells the bytes of a token, and how many tokens a passage has. */
export interface PassageSource {
  readonly passageSize: number;
  /** May end inside a character. */
  tokenBytes(tokenId: number): Uint8Array;
}

/**
 * Returns the text of each passage. A character that spans two is in the second. Bytes that are no UTF-8 become U+FFFD, as in the text of all
 * tokens, which the joined texts are.
 */
export function passageTexts(tokens: Int32Array, { passageSize, tokenBytes }: PassageSource): string[] {
  // A text has few different tokens, and each costs a call into the engine.
  const known = new Map<number, Uint8Array>();
  const bytesOf = (tokenId: number) => {
    const bytes = known.get(tokenId) ?? tokenBytes(tokenId);
    known.set(tokenId, bytes);
    return bytes;
  };
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const texts: string[] = [];
  for (let from = 0; from < tokens.length; from += passageSize) {
    const bytes = Buffer.concat(Array.from(tokens.subarray(from, from + passageSize), bytesOf));
    texts.push(decoder.decode(bytes, { stream: from + passageSize < tokens.length }));
  }
  return texts;
}
