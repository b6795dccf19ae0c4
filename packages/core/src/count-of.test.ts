import { expect, test } from 'vitest';
import { countOf } from './count-of.js';

test.each([
  [countOf(0, 'token'), '0 tokens'],
  [countOf(1, 'token'), '1 token'],
  [countOf(2, 'token'), '2 tokens'],
  [countOf(7000, 'token', '7,000'), '7,000 tokens'],
])('%s', (text, expected) => {
  expect(text).toBe(expected);
});
