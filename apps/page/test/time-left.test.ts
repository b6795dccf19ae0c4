import { expect, test } from 'vitest';
import { addMark, inWords, type ReadingMark, secondsLeft } from '../src/state/time-left.js';

test('the time left is told by the speed of the last seconds', () => {
  let marks: readonly ReadingMark[] = [];
  const after = (at: number, tokens: number) => {
    marks = addMark(marks, { at, tokens });
    return secondsLeft(marks, 10_000);
  };
  expect(after(0, 0)).toBeNull();
  expect(after(10_000, 5_000)).toBe(10);
  // From here on at a fifth of the speed; the first mark is soon too old to count.
  expect(after(20_000, 6_000)).toBeCloseTo(13.3, 1);
  expect(after(30_000, 7_000)).toBe(30);
  expect(after(40_000, 8_000)).toBe(20);
});

test('the time left is not known while nothing is read', () => {
  const marks = addMark(addMark([], { at: 0, tokens: 512 }), { at: 5000, tokens: 512 });
  expect(secondsLeft(marks, 10_000)).toBeNull();
});

test.each([
  [2, 'a few seconds left'],
  [31, 'about 35 s left'],
  [150, 'about 3 min left'],
  [2 * 3600 + 300, 'about 2 h 5 min left'],
])('%d s in words', (seconds, words) => {
  expect(inWords(seconds)).toBe(words);
});
