import { describe, expect, it } from 'vitest';
import { createPartialAttention } from './partial-attention.js';
import { tailPartial } from './tail-partial.js';

const candidates = Uint32Array.of(5, 6, 9);
const scores = Float32Array.from([1, 2, 4, 4, 2, 1], Math.log); // [2 heads, 3 candidates]
const value = Float32Array.of(1, -1, 3, 7);

function partial(tailLse: number[], selected: number[]) {
  const out = createPartialAttention(2, 2);
  const droppedLse = new Float32Array(2);
  const tail = { lse: Float32Array.from(tailLse), value };
  const sizes = { groupSize: 2, headDim: 2 };
  tailPartial({ tail, scores, candidates, selected: Uint32Array.from(selected), ...sizes, out, droppedLse });
  return {
    weight: Array.from(out.lse, Math.exp),
    output: Array.from(out.output),
    dropped: Array.from(droppedLse, Math.exp),
  };
}

describe('tailPartial', () => {
  it('adds the weight of dropped candidates to the tail, with the mean value of the tail', () => {
    const { weight, output, dropped } = partial([Math.log(3), Math.log(5)], [6]);
    expect(weight[0]).toBeCloseTo(3 + 1 + 4, 5);
    expect(weight[1]).toBeCloseTo(5 + 4 + 1, 5);
    expect(dropped[0]).toBeCloseTo(5, 5);
    expect(output).toEqual([1, -1, 3, 7]);
  });
  it('an empty tail leaves the dropped out of the part, but reports their weight', () => {
    const { weight, output, dropped } = partial([Number.NEGATIVE_INFINITY, 0], [5, 6]);
    expect(weight[0]).toBe(0);
    expect(output.slice(0, 2)).toEqual([0, 0]);
    expect(dropped[0]).toBeCloseTo(4, 5);
    expect(weight[1]).toBeCloseTo(2, 5);
  });
  it('nothing dropped: the tail alone', () => {
    const { weight, dropped } = partial([0, 0], [5, 6, 9]);
    expect(weight).toEqual([1, 1]);
    expect(dropped).toEqual([0, 0]);
  });
});
