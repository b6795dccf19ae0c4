import { geometricHeadData, indexInput, integerHeadData } from '@ctkvr/testkit';
import { describe, expect, it } from 'vitest';
import { buildCentroidIndex } from '../src/index.js';

const data = indexInput(
  integerHeadData({ seed: 1, numTokens: 60, headDim: 8, groupSize: 2, numCentroids: 6, numDecodes: 1 }),
);
const options = {
  numSinkTokens: 2,
  recentWindow: 8,
  numCentroids: 6,
  centroidsPerList: 1,
  listLength: 10,
  numProbes: 2,
  clusterSize: 8,
  clusterProbes: 1,
};

describe('buildCentroidIndex', () => {
  it("backend 'auto' without a binary is the reference", async () => {
    const index = await buildCentroidIndex({ ...data, options });
    expect(index).toMatchObject({ backend: 'reference', native: null, numTokens: 60, numCentroids: 6 });
  });
  it("backend 'native' without a binary says what to pass", async () => {
    const building = buildCentroidIndex({ ...data, options, backend: 'native' });
    await expect(building).rejects.toMatchObject({ code: 'CTKVR_NATIVE_UNAVAILABLE' });
    await expect(building).rejects.toThrow(/loadBinding\(\)/);
  });
  it('an unknown backend is refused', async () => {
    const backend = 'gpu' as never;
    await expect(buildCentroidIndex({ ...data, options, backend })).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
    });
  });
  it('an aborted build rejects with CTKVR_ABORTED, before or while it runs', async () => {
    const reason = new Error('no longer needed');
    const signal = AbortSignal.abort(reason);
    await expect(buildCentroidIndex({ ...data, options, signal })).rejects.toMatchObject({
      name: 'AbortError',
      code: 'CTKVR_ABORTED',
      cause: reason,
    });
    const large = geometricHeadData({
      seed: 1,
      numTokens: 4000,
      headDim: 64,
      groupSize: 2,
      numCentroids: 400,
      numDecodes: 1,
    });
    const controller = new AbortController();
    const building = buildCentroidIndex({ ...indexInput(large), signal: controller.signal });
    setImmediate(() => controller.abort());
    await expect(building).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
  });
  it('tail: false keeps none, which makes it smaller', async () => {
    const withTail = await buildCentroidIndex({ ...data, options });
    const without = await buildCentroidIndex({ ...data, options: { ...options, tail: false } });
    // A cluster of each position, u16; of each of 7 clusters two rows of 8 f32 and a count; a correction for each head.
    expect(withTail.tail()!.segments[0]!.keys.length).toBe(7 * 8);
    expect(withTail.sizeBytes - without.sizeBytes).toBe(2 * 50 + 7 * (2 * 8 * 4 + 4) + 4 * 2);
    expect(without.tail()).toBeNull();
  });
  it('its size is what the README says', async () => {
    const index = await buildCentroidIndex({ ...data, options });
    const [c, r, d, l] = [6, 2, 8, 10];
    const [n, m] = [50, 7]; // positions and clusters
    const tail = 2 * n + m * (8 * d + 4) + 4 * r;
    const size = (lists: number) => c * (d + 4) + lists * 4 * l + tail;
    expect(index.sizeBytes).toBe(size(c));
    const shared = await buildCentroidIndex({ ...data, options: { ...options, centroidsPerList: 4 } });
    expect(shared.sizeBytes).toBe(size(2));
  });
});
