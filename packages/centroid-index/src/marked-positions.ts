/** A set of positions as one byte each: cheap to unite. */

/** Returns the positions of all marks that are not 0, ascending. @param start the position of the first mark. */
export function markedPositions(marks: Uint8Array, start: number): Uint32Array {
  const positions = new Uint32Array(marks.length);
  let count = 0;
  for (let j = 0; j < marks.length; j++) if (marks[j] !== 0) positions[count++] = start + j;
  return positions.slice(0, count);
}
