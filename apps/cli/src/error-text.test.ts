import { CtkvrError } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { errorText } from './error-text.js';

describe('errors on the command line', () => {
  it.each([
    [
      new CtkvrError(
        'CTKVR_INVALID_OPTION',
        'contextLength must be at most 8192, what the model was trained for, got 9',
        {
          fields: { option: 'contextLength', max: 8192 },
          remedy: 'to stretch it, also set ropeFreqScale or ropeFreqBase',
        },
      ),
      '--context must be at most 8192, what the model was trained for, got 9; give --context 8192 or less, or stretch it with --rope-scale',
    ],
    [
      new CtkvrError('CTKVR_CONTEXT_EXCEEDED', '9 tokens are needed', {
        fields: { contextLength: 8, trainedContext: 8, length: 0, added: 9, maxNew: 0, needed: 9 },
        remedy: 'shorten the text',
      }),
      'text and question take 9 tokens, the context holds 8; give less text, or take a model with a longer context',
    ],
    [
      new CtkvrError('CTKVR_CONTEXT_EXCEEDED', '9 tokens are needed (7 in the session, 2 to generate)', {
        fields: { contextLength: 8, trainedContext: 64, length: 7, added: 0, maxNew: 2, needed: 9 },
      }),
      '7 tokens of text and questions and 2 of answer are needed, the context holds 8; ' +
        'give less text, lower --max-tokens, or raise --context up to 64',
    ],
    [
      new CtkvrError('CTKVR_INVALID_OPTION', 'the model has no chat template', {
        fields: { option: 'chatTemplate' },
        remedy: 'prefill text or tokens, or pass chatTemplate to loadModel',
      }),
      'the model has no chat template; name a file with another template in --chat-template',
    ],
    [
      new CtkvrError('CTKVR_INVALID_OPTION', 'sampling.topP must be a number from 0 to 1, got 2'),
      '--top-p must be a number from 0 to 1, got 2',
    ],
    // What a user wrote stays as it was written.
    [
      new CtkvrError('CTKVR_FILE_NOT_FOUND', 'there is no file /a/maxTokens.txt or ctkvr:maxSelected=3'),
      'there is no file /a/maxTokens.txt or ctkvr:maxSelected=3',
    ],
  ])('%s', (error, expected) => {
    expect(errorText(error, {})).toBe(expected);
  });

  it('what only we can mend says how to report it', () => {
    expect(errorText(new TypeError('x is not a function'), {})).toContain('this is a bug of ctkvr');
  });
});
