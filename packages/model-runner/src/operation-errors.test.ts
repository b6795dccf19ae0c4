import { expect, test } from 'vitest';
import { contextExceededError, savedContextError } from './operation-errors.js';

const need = { contextLength: 64, trainedContext: 64, length: 0, added: 0, maxNew: 0 };

test.each([
  [
    { ...need, added: 65 },
    "65 tokens are needed, the session's context holds 64; " +
      'shorten the text, or take a model with a longer context: this one was trained for no more',
  ],
  [
    { ...need, trainedContext: 128, length: 60, maxNew: 5 },
    "65 tokens are needed (60 in the session, 5 to generate), the session's context holds 64; " +
      'shorten the text, ask for fewer new tokens, or give model and session a longer context, up to 128',
  ],
])('what does not fit: %j', (numbers, message) => {
  expect(contextExceededError(numbers).message).toBe(message);
});

test('a saved session whose context the model was not loaded for', () => {
  expect(savedContextError({ path: 'a.session', saved: 128, contextLength: 64 }).message).toBe(
    'a.session: the saved session has a context of 128 tokens, the model was loaded for 64; load the model with contextLength 128',
  );
});
