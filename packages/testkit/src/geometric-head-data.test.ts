/** The generated geometry is what the index lives on; if it were lost, the suites would still pass and prove less. */
import { cosineByDistance } from '@ctkvr/rope-similarity';
import { describe, expect, it } from 'vitest';
import { geometricHeadData } from './geometric-head-data.js';
import { attentionMass } from './measures.js';

const sizes = { numTokens: 1500, headDim: 64, groupSize: 3, numCentroids: 1000, numDecodes: 8 };
const data = geometricHeadData({ seed: 4, ...sizes });

describe('geometricHeadData', () => {
  it('neighbouring queries point the same way, distant ones less', async () => {
    const { queries, headDim, groupSize } = data;
    const { mean } = await cosineByDistance({ queries, headDim, groupSize, distances: Uint32Array.of(1, 16, 400) });
    expect(mean[0]).toBeGreaterThan(0.8);
    expect(mean[1]).toBeLessThan(mean[0]! - 0.05);
    expect(mean[2]).toBeLessThan(mean[1]!);
  });
  it('the two sinks draw far more than their share of the attention', () => {
    const query = data.decodes.subarray(0, 3 * 64);
    expect(attentionMass({ ...data, query, positions: [0, 1] })).toBeGreaterThan(0.05);
  });
  it('a few keys hold most of the rest', () => {
    const query = data.decodes.subarray(0, 3 * 64);
    const masses = Array.from({ length: 1500 }, (_, j) => attentionMassOf(query, j)).sort((a, b) => b - a);
    const top = masses.slice(0, 150).reduce((sum, x) => sum + x, 0);
    expect(top).toBeGreaterThan(0.6);
  });
  it('is replayed by its seed', () => {
    expect(geometricHeadData({ seed: 4, ...sizes }).keys).toEqual(data.keys);
    expect(geometricHeadData({ seed: 5, ...sizes }).keys).not.toEqual(data.keys);
  });
});

const cache = new Map<Float32Array, Float64Array>();
function attentionMassOf(query: Float32Array, position: number): number {
  let all = cache.get(query);
  if (all === undefined) {
    const { keys, headDim } = data;
    all = new Float64Array(keys.length / headDim);
    for (let head = 0; head < 3; head++) {
      const scores = all.map((_, j) => {
        let dot = 0;
        for (let d = 0; d < headDim; d++) dot += query[head * headDim + d]! * keys[j * headDim + d]!;
        return Math.exp(dot / 8);
      });
      const total = scores.reduce((sum, x) => sum + x, 0);
      all = all.map((x, j) => x + scores[j]! / total / 3);
    }
    cache.set(query, all);
  }
  return all[position]!;
}
