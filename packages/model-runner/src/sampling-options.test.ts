import { describe, expect, it } from 'vitest';
import { resolveSampling } from './sampling-options.js';

describe('resolveSampling', () => {
  it('is greedy by default and draws a seed', () => {
    const resolved = resolveSampling();
    expect(resolved).toMatchObject({ temperature: 0, topP: 0.95, repeatPenalty: 1 });
    expect(Number.isInteger(resolved.seed)).toBe(true);
    expect(resolveSampling({ seed: 7, topK: undefined }).seed).toBe(7);
  });

  it.each([
    ['temperature', -1],
    ['temperature', Number.NaN],
    ['topP', 1.5],
    ['topK', 2.5],
    ['seed', 2 ** 32],
    ['seed', -1],
    ['repeatPenalty', 0],
    ['minP', '0.1'],
    ['topp', 0.5],
  ])('refuses %s = %s and names it', (name, value) => {
    expect(() => resolveSampling({ [name]: value })).toThrowError(
      expect.objectContaining({ code: 'CTKVR_INVALID_OPTION', fields: expect.objectContaining({ option: name }) }),
    );
  });
});
