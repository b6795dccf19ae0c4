import { expect, test } from 'vitest';
import { type LogitBias, resolveLogitBias } from './logit-bias.js';

test('token ids and their biases', () => {
  expect(resolveLogitBias()).toEqual([]);
  expect(resolveLogitBias({ 7: -100, 0: 2.5 })).toEqual([
    { token: 0, bias: 2.5 },
    { token: 7, bias: -100 },
  ]);
});

test.each([
  [{ seven: 1 }, 'logitBias must be keyed by token ids, got the key "seven"'],
  [{ [-1]: 1 }, 'logitBias must be keyed by token ids, got the key "-1"'],
  [{ 1.5: 1 }, 'logitBias must be keyed by token ids, got the key "1.5"'],
  [{ 7: 101 }, 'logitBias must be a number from -100 to 100 for token 7, got 101'],
  [{ 7: Number.NaN }, 'logitBias must be a number from -100 to 100 for token 7, got NaN'],
  [{ 7: '1' as unknown as number }, 'logitBias must be a number from -100 to 100 for token 7, got 1'],
])('%j is refused', (bias: LogitBias, message) => {
  expect(() => resolveLogitBias(bias)).toThrow(message);
});
