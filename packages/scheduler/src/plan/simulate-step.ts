/**
 * The timelines of device and CPU in one step: micro-batches take turns on both. In each layer a micro-batch has its device work, and where the
 * CPU has a part of the layer, a hop, the CPU's work and a hop back.
 *
 * Both take work in the order of layers and micro-batches, never what happens to be ready first: so no work that gets shorter can make a step
 * longer. Window and retrieval heads could run on the device while the CPU works; here they come before it, so the times are upper bounds.
 */
import type { LayerWork, Work } from './layer-work.js';

export interface TimelineEvent {
  /** What works, or which way queries and results hop. */
  readonly resource: 'device' | 'host' | 'toHost' | 'toDevice';
  readonly layer: number;
  readonly microBatch: number;
  readonly startMs: number;
  readonly endMs: number;
  /** What it consists of; empty for a hop. */
  readonly work: Work;
}

/**
 * Returns when the last micro-batch has ended, in milliseconds.
 * @param layers of each layer, the work of each micro-batch. @param hopMs one way. @param onEvent gets what happened.
 */
export function simulateStep(
  layers: readonly (readonly LayerWork[])[],
  hopMs: number,
  onEvent?: (event: TimelineEvent) => void,
): number {
  /** When each micro-batch can go on. */
  const ready: number[] = (layers[0] ?? []).map(() => 0);
  let [deviceFree, hostFree] = [0, 0];
  layers.forEach((microBatches, layer) => {
    microBatches.forEach(({ device, deviceMs }, microBatch) => {
      const startMs = Math.max(deviceFree, ready[microBatch]!);
      const endMs = startMs + deviceMs;
      ready[microBatch] = endMs;
      deviceFree = endMs;
      onEvent?.({ resource: 'device', layer, microBatch, startMs, endMs, work: device });
    });
    microBatches.forEach(({ host, hostMs }, microBatch) => {
      if (host === null) return;
      const leftMs = ready[microBatch]!;
      const arrivedMs = leftMs + hopMs;
      const startMs = Math.max(hostFree, arrivedMs);
      const endMs = startMs + hostMs;
      const backMs = endMs + hopMs;
      ready[microBatch] = backMs;
      hostFree = endMs;
      onEvent?.({ resource: 'toHost', layer, microBatch, startMs: leftMs, endMs: arrivedMs, work: {} });
      onEvent?.({ resource: 'host', layer, microBatch, startMs, endMs, work: host });
      onEvent?.({ resource: 'toDevice', layer, microBatch, startMs: endMs, endMs: backMs, work: {} });
    });
  });
  return Math.max(0, ...ready);
}
