import { describe, expect, it } from 'vitest';
import { HighestKeys } from './highest-keys.js';

describe('HighestKeys', () => {
  it.each([
    ['ties go to the smaller position', [1, 2, 1, 2, 1], 3, [0, 1, 3]],
    ['all equal', [5, 5, 5, 5], 2, [0, 1]],
    ['-0 and 0 are equal', [0, -0, 0], 2, [0, 1]],
    ['fewer keys than room', [3, 4], 9, [0, 1]],
    ['rising scores push all out', [1, 2, 3, 4, 5, 6], 2, [4, 5]],
    ['falling scores', [6, 5, 4, 3], 2, [0, 1]],
  ])('%s', (_name, scores, capacity, expected) => {
    const heap = new HighestKeys(capacity);
    // Twice over the same memory: nothing is left from before.
    for (let run = 0; run < 2; run++) {
      heap.clear();
      scores.forEach((score, position) => {
        heap.offer(score, position);
      });
      expect(Array.from(heap.positions())).toEqual(expected);
    }
  });
});
