import { describe, expect, it } from 'vitest';
import { spreadQueries } from './spread-queries.js';

const at = (degrees: number) => [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];

describe('spreadQueries', () => {
  const queries = Float32Array.from([0, 90, 180, 170, 40, 10, 5].flatMap(at));
  const spread = (count: number) => Array.from(spreadQueries({ queries, headDim: 2, groupSize: 1, count }));
  it('takes half of the last ones, and the farthest of the others', () => {
    // 10 and 5 degrees are the last; 180 is the farthest from them, then 90.
    expect(spread(4)).toEqual([1, 2, 5, 6]);
    expect(spread(3)).toEqual([2, 5, 6]);
    expect(spread(1)).toEqual([6]);
  });
  it('takes all when there are no more', () => {
    expect(spread(9)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
  it('of equal ones takes the earlier, also where there is no direction', () => {
    const equal = { headDim: 2, groupSize: 1, count: 3 };
    expect(spreadQueries({ queries: Float32Array.of(1, 0, 1, 0, 1, 0, 1, 0), ...equal })).toEqual(
      Uint32Array.of(0, 2, 3),
    );
    expect(spreadQueries({ queries: new Float32Array(8), ...equal })).toEqual(Uint32Array.of(0, 2, 3));
  });
  it('refuses a count of none', () => {
    expect(() => spread(0)).toThrow(expect.objectContaining({ code: 'CTKVR_INVALID_OPTION' }));
  });
});
