/**
 * Ascending positions as gaps of one byte, as index images and ctkvr-core's posting_lists.rs have them: the gap to the previous position (to
 * -1 for the first), 1 to 255; a 0 byte adds 255 and the gap goes on.
 */

/** Returns the bytes of `positions`, counted from `start`. */
export function encodeGaps(positions: Uint32Array, start: number): Uint8Array {
  const bytes: number[] = [];
  let next = start;
  for (const position of positions) {
    let gap = position + 1 - next;
    for (; gap > 255; gap -= 255) bytes.push(0);
    bytes.push(gap);
    next = position + 1;
  }
  return Uint8Array.from(bytes);
}

/** Returns the positions, counted from `start`; null when one is not below `end`, or a gap is not finished. */
export function decodeGaps(
  bytes: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
): Uint32Array | null {
  const positions = new Uint32Array(bytes.length);
  let count = 0;
  let next = start;
  for (const gap of bytes) {
    next += gap === 0 ? 255 : gap;
    if (gap !== 0) positions[count++] = next - 1;
  }
  const finished = bytes.length === 0 || bytes[bytes.length - 1] !== 0;
  return finished && next <= end ? positions.slice(0, count) : null;
}
