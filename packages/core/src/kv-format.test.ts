import { describe, expect, it } from 'vitest';
import { fitsKvFormat, type KvFormat, kvFormats, resolveKvFormat } from './kv-format.js';

describe('resolveKvFormat', () => {
  it('is f16 unless another is given, and refuses what it does not know', () => {
    expect(resolveKvFormat()).toBe('f16');
    for (const format of kvFormats) expect(resolveKvFormat(format)).toBe(format);
    expect(() => resolveKvFormat('q4' as KvFormat)).toThrowError(
      expect.objectContaining({
        code: 'CTKVR_INVALID_OPTION',
        fields: expect.objectContaining({ option: 'kvFormat' }),
      }),
    );
  });
});

it('heads of whole blocks fit q8, and any fit f16', () => {
  expect([64, 96, 80].map((headDim) => fitsKvFormat(headDim, 'q8'))).toEqual([true, true, false]);
  expect(fitsKvFormat(80, 'f16')).toBe(true);
});
