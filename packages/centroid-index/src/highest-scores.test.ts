import { describe, expect, it } from 'vitest';
import { highestScores } from './highest-scores.js';

describe('highestScores', () => {
  it.each([
    ['ties go to the smaller index', [1, 2, 1, 2, 1], 3, [0, 1, 3]],
    ['all equal', [5, 5, 5, 5], 2, [0, 1]],
    ['count beyond the number of scores', [1, 2], 9, [0, 1]],
    ['none asked', [1, 2], 0, []],
    ['no scores', [], 4, []],
    ['negative and infinite scores', [-1, Number.NEGATIVE_INFINITY, -3, 0], 3, [0, 2, 3]],
    ['-0 and 0 are equal', [0, -0, 0], 1, [0]],
    ['-0 before 0', [-0, 0], 1, [0]],
  ])('%s', (_name, scores, count, expected) => {
    expect(Array.from(highestScores(Float64Array.from(scores), count))).toEqual(expected);
  });
});
