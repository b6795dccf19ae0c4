/** Bytes by part that a placement takes on the device and on the host. Sources: docs/design/retrieval.md, section 2.1; the rest is in each line. */
import { countHeads } from './model-shape.js';
import type { LayerPlace, Placement } from './placement.js';
import { clusterBytes, clusterCount, keyValueBytes, pooledBytes, type ReadBytesInput } from './read-bytes.js';
import { splitHeads } from './retrieval-reads.js';
import { rowBytes } from './row-bytes.js';

export const memoryParts = ['weights', 'reserved', 'keysAndValues', 'index', 'lists', 'recentQueries'] as const;
export type MemoryPart = (typeof memoryParts)[number];
export type MemoryBytes = Readonly<Record<MemoryPart, number>>;

export interface PlacedMemory {
  readonly device: MemoryBytes;
  readonly host: MemoryBytes;
}

/** The driver's context, kernels, graphs, activations and logits. An assumption, generous for 8B models. */
export const RESERVED_BYTES = 1.5e9;
/** Bytes of a list's position: gaps of one byte, of which some take another. */
const GAP_BYTES = 1.05;
/** Of each position: its cluster (u16), and its place in the row of positions by cluster (u32). */
const MEMBER_BYTES = 6;
/** Queries kept for the next growth, f16. They are read only when an index grows, so they are the host's. */
const RECENT_QUERIES = 384;

export interface PlacedMemoryInput extends ReadBytesInput {
  readonly weightsBytes: number;
  readonly numSequences: number;
  readonly placement: Placement;
}

/** Returns what a placement takes in all. */
export function placedMemory(input: PlacedMemoryInput): PlacedMemory {
  const { model, numSequences, placement, weightsBytes } = input;
  const parts = sequenceParts(input);
  const share = (place: LayerPlace) => (numSequences * placement.layers[place]) / model.numLayers;
  const [onDevice, hybrid, onHost] = [share('device'), share('hybrid'), share('host')];
  return {
    device: {
      weights: weightsBytes,
      reserved: RESERVED_BYTES,
      keysAndValues: onDevice * parts.keysAndValues + hybrid * (parts.retrievalHeads + parts.window),
      index: (onDevice + hybrid) * parts.index,
      lists: onDevice * parts.lists,
      recentQueries: 0,
    },
    host: {
      weights: 0,
      reserved: 0,
      keysAndValues: hybrid * (parts.keysAndValues - parts.retrievalHeads) + onHost * parts.keysAndValues,
      index: onHost * parts.index,
      // The CPU unites the probed lists.
      lists: (hybrid + onHost) * parts.lists,
      recentQueries: numSequences * parts.recentQueries,
    },
  };
}

/** Bytes of one sequence, over all layers. */
function sequenceParts({ model, context, kvFormat, reads }: ReadBytesInput) {
  const row = rowBytes(model.headDim, kvFormat);
  const heads = countHeads(model);
  const { retrieval, plain } = splitHeads(heads, reads);
  // A retrieval head that scores every key has clusters only.
  const listed = reads.retrievalKeyShare === 1 ? plain : heads;
  const numLists = reads.centroids / reads.centroidsPerList;
  const members = reads.clusterSize === 0 ? 0 : MEMBER_BYTES * context;
  return {
    keysAndValues: keyValueBytes({ model, context, kvFormat }),
    retrievalHeads: retrieval * context * 2 * row,
    window: heads * reads.window * 2 * row,
    index: heads * clusterCount(context, reads) * clusterBytes(model, reads) + listed * pooledBytes(model, reads),
    lists: listed * GAP_BYTES * numLists * reads.listLength + heads * members,
    recentQueries: RECENT_QUERIES * model.numLayers * model.numQueryHeads * model.headDim * 2,
  };
}
