import { expect, test } from 'vitest';
import { slices } from '../src/prompt.js';

const tokens = Int32Array.from({ length: 100 }, (_, index) => index);

test('prompts lie one after another while the text lasts', () => {
  const prompts = slices(tokens, { numTokens: 25, count: 4 });
  expect(prompts.map((prompt) => [prompt[0], prompt.length])).toEqual([
    [0, 25],
    [25, 25],
    [50, 25],
    [75, 25],
  ]);
});

test('where the text is too short for that they overlap, and none begins like another', () => {
  const prompts = slices(tokens, { numTokens: 90, count: 6 });
  expect(prompts.map((prompt) => prompt[0])).toEqual([0, 2, 4, 6, 8, 10]);
  expect(prompts.every((prompt) => prompt.length === 90)).toBe(true);
});

test('a text of one prompt gives one', () => {
  expect(slices(tokens, { numTokens: 100, count: 1 })).toEqual([tokens]);
  expect(() => slices(tokens, { numTokens: 100, count: 2 })).toThrow(/100 tokens, 2 times 100/);
  expect(() => slices(tokens, { numTokens: 101, count: 1 })).toThrow(RangeError);
});
