import { resolveSelectorOptions, type SelectorMethod, selectorMethods } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { checkMemory, estimateMemory, longestContext, neededBytes } from './memory-estimate.js';

const info = { numLayers: 24, numQueryHeads: 14, numKvHeads: 2, headDim: 64 };
/** Bytes of 16,000 tokens in pages of 256, f16. */
const kvBytes = 63 * 256 * 24 * 2 * 64 * 2 * 2;
/** The recent queries, f16 [384, 7, 64] per layer and KV head, and those of before a later prompt. */
const queryBytes = 2 * (24 * 2 * 384 * 7 * 64 * 2);
const selector = resolveSelectorOptions();

describe('estimateMemory', () => {
  it('counts keys and values in whole pages and lists only for the selector that has them', () => {
    const full = estimateMemory({
      info,
      contextLength: 16_000,
      selector: resolveSelectorOptions({ method: 'full' }),
    });
    // the recent queries are kept for any selector
    expect(full).toEqual({ kvBytes, indexBytes: queryBytes });
    const ctkvr = estimateMemory({ info, contextLength: 16_000, selector });
    expect(ctkvr.kvBytes).toBe(full.kvBytes);
    // lists of 1536 gaps alone, per layer, KV head and list, twice as many as at first
    const numLists = 384 / selector.centroidsPerList;
    expect(ctkvr.indexBytes - full.indexBytes).toBeGreaterThan(24 * 2 * 2 * numLists * 1536);
  });

  it('counts an index only for layers that see everything', () => {
    const localLayers = { window: 512, period: 6 };
    const need = (sizes: object) => estimateMemory({ info: { ...info, ...sizes }, contextLength: 16_000, selector });
    const [all, four] = [need({ localLayers }), need({ numLayers: 4 })];
    expect(all).toEqual({ kvBytes, indexBytes: four.indexBytes });
    expect(need({ localLayers: null })).toEqual(need({}));
  });

  it('counts codes and scales of keys and values in 8 bits, and the same index', () => {
    const [f16, q8] = (['f16', 'q8'] as const).map((kvFormat) =>
      estimateMemory({ info, contextLength: 16_000, kvFormat, selector }),
    );
    // Per layer and KV head a key and a value of 64 codes and two f32 scales.
    expect(q8).toEqual({ kvBytes: 63 * 256 * 24 * 2 * 2 * (64 + 2 * 4), indexBytes: f16!.indexBytes });
  });

  it('counts the clusters of the tail', () => {
    const [withTail, without] = [true, false].map((tail) => {
      return estimateMemory({ info, contextLength: 16_272, selector: { ...selector, tail } }).indexBytes;
    });
    // 16,000 positions are indexed: 500 clusters of a key and a value, f16; and hardly more with those that growth adds.
    const least = 24 * 2 * (500 * 2 * 64 * 2 + 16_000 * (2 + 4));
    expect(withTail! - without!).toBeGreaterThan(least);
    expect(withTail! - without!).toBeLessThan(2 * least);
  });

  it('counts what each of the baselines keeps', () => {
    const streaming = resolveSelectorOptions({ method: 'streaming' });
    const ofStreaming = estimateMemory({ info, contextLength: 16_272, selector: streaming }).indexBytes;
    expect(ofStreaming).toBeGreaterThanOrEqual(queryBytes);
    const bytes = (method: SelectorMethod) => {
      const baseline = resolveSelectorOptions({ method });
      return estimateMemory({ info, contextLength: 16_272, selector: baseline }).indexBytes - ofStreaming;
    };
    expect(bytes('exactTopK')).toBe(0);
    // 16,000 positions are indexed, per layer and KV head: 1024 positions as u32
    expect(bytes('snapkv')).toBe(24 * 2 * 1024 * 4);
    // 1,000 pages' largest and smallest values, f16
    expect(bytes('quest')).toBe(24 * 2 * 1000 * 64 * 2 * 2);
    // 150 tables of all positions alone
    expect(bytes('magicpig')).toBeGreaterThan(24 * 2 * 150 * 16_000 * 4);
    expect(bytes('keyClusters')).toBeGreaterThan(24 * 2 * (1000 * 64 * 4 + 16_000 * 4));
  });

  it('keeps recent queries only below denseBelow, and lists no longer than the indexed region', () => {
    const { indexBytes: recentBytes } = estimateMemory({ info, contextLength: 4095, selector });
    expect(recentBytes).toBe(queryBytes);
    const unbounded = resolveSelectorOptions({ preset: 'exact' });
    const { indexBytes } = estimateMemory({ info, contextLength: 1000, selector: unbounded });
    // besides, of generated tokens, the queries of two growths and of 8 centroids more
    const growthBytes = 24 * 2 * (2 * 64 + 8) * 7 * 64 * 2;
    expect(indexBytes).toBeLessThan(growthBytes + 24 * 2 * 8 * 2 * (1000 * 2 + 64 * 2));
  });
});

describe('checkMemory', () => {
  const input = { info, contextLength: 16_000, selector: resolveSelectorOptions({ method: 'full' }) };
  const needed = kvBytes + queryBytes;

  it('passes when it fits to the byte, refuses one byte below', () => {
    expect(() => checkMemory({ ...input, availableBytes: needed, reservedBytes: 0 })).not.toThrow();
    expect(() => checkMemory({ ...input, availableBytes: needed - 1, reservedBytes: 0 })).toThrowError(
      expect.objectContaining({ code: 'CTKVR_OUT_OF_MEMORY' }),
    );
  });

  it('counts what other sessions may still take, and names the context that would fit', () => {
    const call = () => checkMemory({ ...input, availableBytes: needed, reservedBytes: needed / 2 });
    expect(call).toThrowError(
      expect.objectContaining({
        message: expect.stringContaining(`A context of ${26 * 256} tokens would fit`),
        fields: expect.objectContaining({ neededBytes: needed, fittingContextLength: 26 * 256 }),
      }),
    );
    const q8 = () => checkMemory({ ...input, kvFormat: 'q8', availableBytes: needed, reservedBytes: needed / 2 });
    expect(q8).toThrowError(
      expect.objectContaining({ fields: expect.objectContaining({ fittingContextLength: 46 * 256 }) }),
    );
  });
});

it('the longest context that fits is the last that does, for every selector and format', () => {
  for (const method of selectorMethods) {
    for (const kvFormat of ['f16', 'q8'] as const) {
      const input = { info, contextLength: 60_000, kvFormat, selector: resolveSelectorOptions({ method }) };
      for (const freeBytes of [0, 3e7, 1e8, 4e8, 1e12]) {
        const longest = longestContext(input, freeBytes);
        if (longest > 0) expect(neededBytes({ ...input, contextLength: longest })).toBeLessThanOrEqual(freeBytes);
        if (longest < 60_000) {
          expect(neededBytes({ ...input, contextLength: longest + 1 })).toBeGreaterThan(freeBytes);
        }
      }
    }
  }
});
