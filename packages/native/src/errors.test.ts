import { CtkvrError } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { mapNativeError } from './errors.js';

describe('mapNativeError', () => {
  it('turns the JSON of the Rust side into a CtkvrError with its fields and the original as cause', () => {
    const native = new Error(
      JSON.stringify({ code: 'CTKVR_CONTEXT_EXCEEDED', message: 'too long', fields: { maxTokens: 8, needed: 9 } }),
    );
    const error = mapNativeError(native);
    expect(CtkvrError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({
      code: 'CTKVR_CONTEXT_EXCEEDED',
      message: 'too long',
      fields: { maxTokens: 8, needed: 9 },
      cause: native,
    });
  });

  it('keeps a CtkvrError as it is', () => {
    const error = new CtkvrError('CTKVR_BUSY', 'busy');
    expect(mapNativeError(error)).toBe(error);
  });

  it.each([
    ['a panic', new Error('index out of bounds'), 'CTKVR_INTERNAL', 'index out of bounds'],
    ['broken JSON', new Error('{"code":'), 'CTKVR_INTERNAL', '{"code":'],
    ['JSON without a code', new Error('{"a":1}'), 'CTKVR_INTERNAL', '{"a":1}'],
    ['a thrown string', 'no error object', 'CTKVR_INTERNAL', 'no error object'],
    [
      'a wrong argument type',
      Object.assign(new Error('Expect value to be Number'), { code: 'NumberExpected' }),
      'CTKVR_INVALID_OPTION',
      'Expect value to be Number',
    ],
  ])('maps %s', (_name, thrown, code, text) => {
    const error = mapNativeError(thrown);
    expect(error.code).toBe(code);
    expect(error.message).toContain(text);
  });
});
