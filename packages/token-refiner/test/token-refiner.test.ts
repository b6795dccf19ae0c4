import { integerHeadData, refinerInput } from '@ctkvr/testkit';
import { describe, expect, it } from 'vitest';
import {
  createAttentionOutput,
  createPartialAttention,
  mergePartials,
  type RefineRules,
  TokenRefiner,
} from '../src/index.js';

const data = integerHeadData({ seed: 5, numTokens: 50, headDim: 8, groupSize: 2, numCentroids: 1, numDecodes: 1 });
const settings = { ...refinerInput(data), numSinkTokens: 2, recentWindow: 8 };

describe('TokenRefiner', () => {
  it("backend 'native' without native scores says what to pass; an unknown backend is refused", () => {
    expect(() => new TokenRefiner({ ...settings, backend: 'native' })).toThrow(/index\.native/);
    expect(() => new TokenRefiner({ ...settings, backend: 'gpu' as never })).toThrow(/'auto', 'native' or 'reference'/);
  });
  it('works on what is passed as native, and on the reference when told to', () => {
    // Not a mock of ours: anything of this form may be passed. This one prefers the last candidate.
    const output = new Float32Array(16).fill(3);
    const attention = { output, lse: Float32Array.of(1, 2), mass: Float32Array.of(0.5, 1), counters: { selected: 1 } };
    const native = {
      scores: (_: Float32Array, of: Uint32Array) =>
        Float32Array.from({ length: 2 * of.length }, (_, i) => i % of.length),
      selectAmong: (_: Float32Array, of: Uint32Array, { maxSelected }: RefineRules) => of.slice(-maxSelected),
      attendAmong: () => attention,
    };
    const selected = new Uint32Array(3);
    const candidates = Uint32Array.of(10, 20, 30);
    const refiner = new TokenRefiner({ ...settings, maxSelected: 1, native });
    expect(refiner.backend).toBe('native');
    expect(refiner.select({ query: data.decodes, candidates, out: selected })).toBe(1);
    expect(selected[0]).toBe(30);
    const out = createAttentionOutput(2, 8);
    expect(refiner.attend({ query: data.decodes, candidates, out })).toBe(1);
    expect({ ...out, counters: { selected: 1 } }).toEqual(attention);
    expect(new TokenRefiner({ ...settings, native, backend: 'reference' }).backend).toBe('reference');
  });
  it.each([0, 1.5, Number.NaN])('topP %s is refused', (topP) => {
    expect(() => new TokenRefiner({ ...settings, topP })).toThrow(
      expect.objectContaining({ code: 'CTKVR_INVALID_OPTION', fields: expect.objectContaining({ option: 'topP' }) }),
    );
  });
  it('bad numbers in keys or values are refused', () => {
    for (const what of ['keys', 'values'] as const) {
      const numbers = data[what].slice();
      numbers[9] = Number.NaN;
      expect(() => new TokenRefiner({ ...settings, [what]: numbers })).toThrow(
        expect.objectContaining({
          code: 'CTKVR_NON_FINITE',
          fields: expect.objectContaining({ argument: what, index: 9 }),
        }),
      );
    }
  });
  it('no candidates and no tail: sinks and window only', () => {
    const out = createAttentionOutput(2, 8);
    const refiner = new TokenRefiner(settings);
    expect(refiner.attend({ query: data.decodes, candidates: new Uint32Array(0), out })).toBe(0);
    expect(out.output.every(Number.isFinite)).toBe(true);
  });
  it('survives scores far beyond the range of exp', () => {
    const large = { ...settings, keys: data.keys.map((x) => x * 1000) };
    const out = createAttentionOutput(2, 8);
    new TokenRefiner(large).attend({ query: data.decodes, candidates: Uint32Array.of(20, 21), out });
    expect([...out.output, ...out.lse].every(Number.isFinite)).toBe(true);
  });
});

describe('mergePartials', () => {
  it('empty parts change nothing, and only empty parts give an empty part', () => {
    const part = { output: Float32Array.of(1, 2), lse: Float32Array.of(3) };
    const empty = createPartialAttention(1, 2);
    const out = createPartialAttention(1, 2);
    mergePartials({ partials: [empty, part, empty], groupSize: 1, headDim: 2, out });
    expect(out).toEqual(part);
    mergePartials({ partials: [empty, empty], groupSize: 1, headDim: 2, out });
    expect(out).toEqual(empty);
    mergePartials({ partials: [], groupSize: 1, headDim: 2, out });
    expect(out).toEqual(empty);
  });
  it('the result may be written over any of the parts', () => {
    const make = (lse: number) => ({ output: Float32Array.of(lse, -lse, 1, lse), lse: Float32Array.of(lse, 2 * lse) });
    const expected = createPartialAttention(2, 2);
    const sizes = { groupSize: 2, headDim: 2 };
    mergePartials({ partials: [make(1), make(2), make(3)], ...sizes, out: expected });
    for (const which of [0, 1, 2]) {
      const partials = [make(1), make(2), make(3)];
      mergePartials({ partials, ...sizes, out: partials[which]! });
      expect(partials[which]).toEqual(expected);
    }
  });
  it('what an empty part holds as output does not matter', () => {
    const part = { output: Float32Array.of(1, 2), lse: Float32Array.of(3) };
    const unwritten = { output: Float32Array.of(Number.NaN, 1e30), lse: Float32Array.of(Number.NEGATIVE_INFINITY) };
    const sizes = { groupSize: 1, headDim: 2 };
    mergePartials({ partials: [part, unwritten], ...sizes, out: unwritten });
    expect(unwritten).toEqual(part);
    const empty = createPartialAttention(1, 2);
    const alsoEmpty = { output: Float32Array.of(Number.NaN, 7), lse: empty.lse.slice() };
    mergePartials({ partials: [alsoEmpty], ...sizes, out: alsoEmpty });
    expect(alsoEmpty).toEqual(empty);
  });
  it('parts far apart: the smaller one vanishes, nothing overflows', () => {
    const part = (x: number, lse: number) => ({ output: Float32Array.of(x), lse: Float32Array.of(lse) });
    const out = createPartialAttention(1, 1);
    mergePartials({ partials: [part(5, -1e4), part(1, 1e4), part(7, -1e4)], groupSize: 1, headDim: 1, out });
    expect(out).toEqual(part(1, 1e4));
  });
  it('two parts of equal weight average', () => {
    const out = createPartialAttention(1, 1);
    const part = (x: number) => ({ output: Float32Array.of(x), lse: Float32Array.of(100) });
    mergePartials({ partials: [part(1), part(3)], groupSize: 1, headDim: 1, out });
    expect(out.output[0]).toBe(2);
    expect(out.lse[0]).toBeCloseTo(100 + Math.log(2), 5);
  });
});
