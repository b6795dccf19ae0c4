/** Steps whose layers are all hybrid, from the bytes of the project's design of the device path to milliseconds by its closed forms, by hand. */
import { describe, expect, it } from 'vitest';
import { plan } from '../../src/index.js';
import { microBatchSizes } from '../../src/plan/placement.js';
import { cardOf, options } from './examples.js';

const LAYERS = 32;
/** Llama-3-8B at 96K, bytes of one sequence: window, retrieval heads and index; candidates and values. */
const onDevice = 35_651_584 + 508_559_360 + 405_123_072;
const onHost = 211_456_000 + 61_865_984;
const weights = (7.5e9 * 4.85) / 8;
/** H100: 2,900 GB/s, of which keys reach three quarters; host 230 GB/s; a hop of 10 µs; 20 µs of launches, .3 ms at the end. */
const [deviceRate, hostRate, hop, launches, sampling] = [2900e6, 230e6, 0.01, 0.02, 0.3];
const deviceMs = (sequences: number) =>
  weights / LAYERS / deviceRate + (sequences * onDevice) / LAYERS / (0.75 * deviceRate) + launches;
const hostMs = (sequences: number) => (sequences * onHost) / LAYERS / hostRate;

/** The faster of one and two micro-batches. */
function hybrid(sequences: number) {
  // Memory for weights, and 2 GB of each sequence: a resident one takes 13.
  const card = { ...cardOf('H100 80GB'), memoryBytes: weights + 1.5e9 + 2e9 * sequences };
  const step = plan(options({ devices: [card], weights: 'q4_k_m', sequences })).uniform[1]!;
  expect(step.placement.layers.hybrid).toBe(LAYERS);
  return { microBatches: step.placement.microBatches, ms: step.time.totalMs };
}

describe('all layers hybrid, H100, Q4_K_M', () => {
  it('one sequence: each layer g + c + 2 hop', () => {
    const { microBatches, ms } = hybrid(1);
    expect(microBatches).toBe(1);
    expect(ms).toBeCloseTo(LAYERS * (deviceMs(1) + hostMs(1) + 2 * hop) + sampling, 3);
  });

  it.each([2, 4, 8, 16])('%d sequences in two micro-batches: max(2g, 2c, g + c + 2 hop) of one half', (sequences) => {
    const { microBatches, ms } = hybrid(sequences);
    const [g, c] = [deviceMs(sequences / 2), hostMs(sequences / 2)];
    const steady = LAYERS * Math.max(2 * g, 2 * c, g + c + 2 * hop) + sampling;
    expect(microBatches).toBe(2);
    expect(ms).toBeGreaterThanOrEqual(steady - 1e-3);
    // The first layer has nothing beside it.
    expect(ms).toBeLessThanOrEqual(steady + g + c + 2 * hop + 1e-3);
  });

  it('few cores are slower than their memory', () => {
    const few = { memoryBytes: 1e12, gigabytesPerSecond: 230, cores: 4 };
    const step = plan(options({ devices: [cardOf('H100 80GB')], host: few, weights: 'q4_k_m' })).uniform[1]!;
    // 236 heads of 3,500 candidates, 130 core-microseconds each.
    const arithmetic = (236 * 0.13) / 4;
    expect(step.time.totalMs).toBeCloseTo(LAYERS * (deviceMs(1) + 2 * hop) + arithmetic + sampling, 3);
  });
});

it('halves of an odd number differ by one', () => {
  expect([1, 2, 3, 8, 9].map((count) => microBatchSizes(2, count))).toEqual([
    [1, 0],
    [1, 1],
    [2, 1],
    [4, 4],
    [5, 4],
  ]);
  expect(microBatchSizes(1, 9)).toEqual([9]);
});
