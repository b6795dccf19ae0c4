/**
 * Which passages of a document were read for one token: pairs of a passage's number and its share of the token's attention, 0 to 1,
 * ascending by passage. Numbers beyond the document's are question and answer.
 */
export type ReadMap = readonly (readonly [passage: number, share: number])[];

/**
 * The first passage. Models rest what attention they have no use for on the first tokens (attention sinks), whatever these say, so it
 * stands for nothing that was read.
 */
export const SINK_PASSAGE = 0;

/** Share of attention by passage of the document: [numPassages], summed over the tokens, without the sink. */
export function readShares(maps: readonly ReadMap[], numPassages: number): Float64Array {
  const shares = new Float64Array(numPassages);
  for (const map of maps) {
    for (const [passage, share] of map) {
      if (passage !== SINK_PASSAGE && passage < numPassages) shares[passage] = (shares[passage] ?? 0) + share;
    }
  }
  return shares;
}
