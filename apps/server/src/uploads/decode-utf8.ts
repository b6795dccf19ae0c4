/** Returns the text of bytes, without a byte order mark. @throws {TypeError} where they are not UTF-8. */
export function decodeUtf8(pieces: readonly Uint8Array[]): string {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const texts = pieces.map((piece) => decoder.decode(piece, { stream: true }));
  return texts.join('') + decoder.decode();
}
