/** Bytes by part against the project's design of the device path, section 3, and against sums made by hand. */
import { describe, expect, it } from 'vitest';
import { modelShapes, plan, readSettings } from '../../src/index.js';
import { readBytes } from '../../src/plan/read-bytes.js';
import { retrievalReads } from '../../src/plan/retrieval-reads.js';
import { rowBytes } from '../../src/plan/row-bytes.js';
import { weightBytes } from '../../src/plan/weight-bytes.js';
import { CONTEXT, options } from './examples.js';

const llama = modelShapes['llama-3-8b'];

describe('bytes of a step at 96K, Llama-3-8B', () => {
  const { bytes, denseBytes } = plan(options());

  it('are those of the design, by part, in megabytes', () => {
    const megabytes = Object.fromEntries(Object.entries(bytes).map(([part, value]) => [part, Math.round(value / 1e6)]));
    expect(megabytes).toEqual({ window: 36, candidates: 211, values: 62, retrievalHeads: 509, index: 405 });
  });

  it('are 9.5 % of a dense step', () => {
    const read = Object.values(bytes).reduce((sum, value) => sum + value, 0);
    expect(denseBytes).toBe(32 * 8 * CONTEXT * 2 * 256);
    expect(Math.round((1000 * read) / denseBytes)).toBe(95);
  });

  it('are 8.2 % with the means of clusters in 8 bits', () => {
    const rounded = plan(options({ selector: { clusterFormat: 'q8' } })).bytes;
    expect({ ...rounded, index: bytes.index }).toEqual(bytes);
    expect(Math.round(rounded.index / 1e6)).toBe(235);
    const read = Object.values(rounded).reduce((sum, value) => sum + value, 0);
    expect(Math.round((1000 * read) / denseBytes)).toBe(82);
  });

  it('are 5.7 % when retrieval heads read three tenths of their clusters, too', () => {
    const fewer = plan(options({ selector: { clusterFormat: 'q8', retrievalClusterShare: 0.3 } })).bytes;
    const read = Object.values(fewer).reduce((sum, value) => sum + value, 0);
    expect(Math.round((1000 * read) / denseBytes)).toBe(57);
  });

  it('are 9/16 with keys and values in q8, except the index', () => {
    const q8 = plan(options({ kvFormat: 'q8' })).bytes;
    for (const part of ['window', 'candidates', 'values', 'retrievalHeads'] as const) {
      expect(q8[part]).toBe((bytes[part] * 9) / 16);
    }
    expect(q8.index).toBe(bytes.index);
  });
});

it('rows and weights have the bytes of their formats', () => {
  expect([rowBytes(128, 'f16'), rowBytes(128, 'q8'), rowBytes(64, 'q8')]).toEqual([256, 144, 72]);
  const gigabytes = (['f16', 'q8_0', 'q4_k_m'] as const).map((format) => weightBytes(llama, format) / 1e9);
  expect(gigabytes.map((value) => value.toFixed(2))).toEqual(['15.00', '7.97', '4.55']);
  expect(weightBytes({ ...llama, weightsBytes: 5e9 }, null)).toBe(5e9);
  expect(weightBytes({ ...llama, weightsBytes: 5e9 }, 'f16')).toBe(15e9);
});

it('a model of one layer and head, summed by hand', () => {
  const model = { name: 'tiny', numLayers: 1, numQueryHeads: 2, numKvHeads: 1, headDim: 32, numParameters: 1 };
  const reads = {
    ...{ window: 10, candidates: 100, values: 20, retrievalHeadShare: 0, retrievalKeyShare: 1 },
    ...{ centroids: 3, listLength: 50, centroidsPerList: 1, clusterSize: 16, clusterFormat: 'f16' as const },
  };
  const row = 64;
  // 62 clusters of a key and a value in f16 and 8 bytes, and 3 pooled vectors of 32 codes and a scale.
  const index = 62 * (2 * row + 8) + 3 * 36;
  const input = { model, context: 1000, kvFormat: 'f16' as const };
  expect(readBytes({ ...input, reads })).toEqual({
    ...{ window: 10 * 2 * row, candidates: 100 * row, values: 20 * row, retrievalHeads: 0, index },
  });
  expect(readBytes({ ...input, reads: { ...reads, retrievalHeadShare: 1 } })).toEqual({
    ...{ window: 10 * 2 * row, candidates: 0, values: 0, retrievalHeads: 1020 * row, index: 62 * row },
  });
  // A quarter of the keys, and the candidates of other heads; the index as theirs.
  const quarter = { ...reads, retrievalHeadShare: 1, retrievalKeyShare: 0.25 };
  expect(readBytes({ ...input, reads: quarter })).toMatchObject({ retrievalHeads: (250 + 100 + 20) * row, index });
  const all = { ...quarter, retrievalKeyShare: 0.95 };
  expect(readBytes({ ...input, reads: all }).retrievalHeads).toBe((1000 + 20) * row);
  // In q8 a mean is 32 codes and a scale; of a retrieval head the mean values alone are read.
  const q8 = { ...reads, clusterFormat: 'q8' as const };
  expect(readBytes({ ...input, reads: q8 }).index).toBe(62 * (2 * 36 + 8) + 3 * 36);
  expect(readBytes({ ...input, reads: { ...q8, retrievalHeadShare: 1 } }).index).toBe(62 * 36);
  const odd = { ...model, headDim: 48 };
  expect(readBytes({ ...input, model: odd, reads: q8 })).toEqual(readBytes({ ...input, model: odd, reads }));
});

it.each(readSettings)('%s never reads more positions than there are', (setting) => {
  for (const model of Object.values(modelShapes)) {
    for (const context of [4096, 5000, 8000, 100_000]) {
      const { window, candidates, values, centroids } = retrievalReads(setting, { model, context });
      expect(window + candidates).toBeLessThanOrEqual(context);
      expect(values).toBeLessThanOrEqual(candidates);
      expect(centroids).toBeLessThanOrEqual(384);
    }
  }
});

it('the widest setting is never below that of a group', () => {
  for (const model of Object.values(modelShapes)) {
    const [widest, group] = (['widest', 'group'] as const).map((reads) =>
      retrievalReads(reads, { model, context: CONTEXT }),
    );
    expect(widest!.values).toBeGreaterThanOrEqual(group!.values);
    expect(widest!.listLength).toBeGreaterThanOrEqual(group!.listLength);
    // The candidates that were seen are 2.4 % below what the lists' lengths give.
    expect(widest!.candidates).toBeGreaterThanOrEqual(0.975 * group!.candidates);
  }
});
