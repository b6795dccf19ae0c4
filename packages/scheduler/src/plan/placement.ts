/**
 * Where the keys and values of each layer are, and into how many micro-batches a step's sequences are divided. The linear layers are always the
 * device's.
 */

/**
 * device = keys, values and index on the device. hybrid = index, window and retrieval heads on the device, everything else in host memory, where the
 * CPU scores and attends the candidates. host = all of attention is the CPU's.
 */
export const layerPlaces = ['device', 'hybrid', 'host'] as const;
export type LayerPlace = (typeof layerPlaces)[number];

export interface Placement {
  /** Layers of each place; the device's come first. */
  readonly layers: Readonly<Record<LayerPlace, number>>;
  /** With 2, one half of the sequences is on the device while the other is on the CPU; each reads the weights. */
  readonly microBatches: 1 | 2;
}

/** Yields every placement: those with the most layers on the device first, so that the first of equal ones is the simplest. */
export function* enumeratePlacements(numLayers: number, numSequences: number): Generator<Placement> {
  for (const microBatches of numSequences > 1 ? ([1, 2] as const) : ([1] as const)) {
    for (let device = numLayers; device >= 0; device--) {
      for (let hybrid = numLayers - device; hybrid >= 0; hybrid--) {
        yield { layers: { device, hybrid, host: numLayers - device - hybrid }, microBatches };
      }
    }
  }
}

/** Returns the place of each layer, in order. */
export function placesOf({ layers }: Placement): LayerPlace[] {
  return layerPlaces.flatMap((place) => Array.from({ length: layers[place] }, () => place));
}

/** Returns the sequences of each micro-batch: the larger half first. */
export function microBatchSizes(microBatches: 1 | 2, numSequences: number): number[] {
  const half = Math.floor(numSequences / 2);
  return microBatches === 1 ? [numSequences] : [numSequences - half, half];
}
