import { describe, expect, it } from 'vitest';
import { selectCandidates } from './select-candidates.js';

function select(weights: number[], maxSelected: number, topP?: number): number[] {
  const candidates = Uint32Array.from(weights, (_, i) => 100 + 10 * i);
  const out = new Uint32Array(weights.length);
  const input = { weights: Float64Array.from(weights), candidates, maxSelected, out };
  const count = selectCandidates(topP === undefined ? input : { ...input, topP });
  return Array.from(out.subarray(0, count));
}

describe('selectCandidates', () => {
  it.each([
    ['the heaviest, by position', [0.1, 0.5, 0.2, 0.2], 2, undefined, [110, 120]],
    ['0 = all', [0.1, 0.5, 0.4], 0, undefined, [100, 110, 120]],
    ['more than there are', [0.1, 0.9], 5, undefined, [100, 110]],
    ['none there', [], 5, undefined, []],
    ['ties to the smaller position', [0.25, 0.25, 0.25, 0.25], 3, undefined, [100, 110, 120]],
    ['topP: the smallest set that reaches it', [0.125, 0.5, 0.25, 0.125], 0, 0.75, [110, 120]],
    ['topP: just above needs one more', [0.125, 0.5, 0.25, 0.125], 0, 0.76, [100, 110, 120]],
    ['topP is a share of the total, whatever that is', [0.25, 1, 0.5, 0.25], 0, 0.75, [110, 120]],
    ['topP: at least one', [0.25, 0.75], 0, 1e-9, [110]],
    ['topP is capped by maxSelected', [0.125, 0.5, 0.25, 0.125], 1, 0.9, [110]],
    ['topP with ties: smaller positions', [0.25, 0.25, 0.25, 0.25], 0, 0.5, [100, 110]],
  ])('%s', (_name, weights, maxSelected, topP, expected) => {
    expect(select(weights, maxSelected, topP)).toEqual(expected);
  });
  it.each([0, -1, 1.01, Number.NaN])('topP %s is refused', (topP) => {
    expect(() => select([1], 0, topP)).toThrow(expect.objectContaining({ code: 'CTKVR_INVALID_OPTION' }));
  });
  it('an output without room is refused before anything is written', () => {
    const out = new Uint32Array(1);
    const input = { weights: Float64Array.of(0.5, 0.5), candidates: Uint32Array.of(3, 4), maxSelected: 2, out };
    expect(() => selectCandidates(input)).toThrow(expect.objectContaining({ code: 'CTKVR_SHAPE_MISMATCH' }));
    expect(out[0]).toBe(0);
  });
});
