import { describe, expect, it } from 'vitest';
import { checkCapacity, checkFinite, checkInteger, checkLength } from './checks.js';
import { CtkvrError } from './errors.js';

function codeOf(run: () => void): unknown {
  try {
    run();
  } catch (error) {
    return CtkvrError.isInstance(error) ? { code: error.code, ...error.fields } : error;
  }
  return 'passed';
}

describe('argument checks', () => {
  const at = { op: 'build', name: 'keys' };
  it('a wrong length names argument, expected and actual', () => {
    expect(codeOf(() => checkLength(5, 6, { ...at, shape: '[3, 2]' }))).toEqual({
      code: 'CTKVR_SHAPE_MISMATCH',
      op: 'build',
      argument: 'keys',
      expected: 6,
      actual: 5,
    });
    expect(codeOf(() => checkLength(6, 6, { ...at, shape: '[3, 2]' }))).toBe('passed');
  });
  it('an output may be longer than needed, not shorter', () => {
    expect(codeOf(() => checkCapacity(7, 6, at))).toBe('passed');
    expect(codeOf(() => checkCapacity(5, 6, at))).toMatchObject({
      code: 'CTKVR_SHAPE_MISMATCH',
      expected: 6,
      actual: 5,
    });
  });
  it.each([
    ['NaN', Number.NaN],
    ['+Infinity', Number.POSITIVE_INFINITY],
    ['-Infinity', Number.NEGATIVE_INFINITY],
  ])('%s is found where it is', (_name, bad) => {
    expect(codeOf(() => checkFinite(Float32Array.of(0, 1, bad, bad), at))).toMatchObject({
      code: 'CTKVR_NON_FINITE',
      index: 2,
    });
  });
  it.each([
    [0, false],
    [1, true],
    [8, true],
    [9, false],
    [1.5, false],
    [Number.NaN, false],
    ['3', false],
  ])('%s as an integer from 1 to 8: %s', (value, passes) => {
    const result = codeOf(() => checkInteger(value, { ...at, min: 1, max: 8 }));
    if (passes) expect(result).toBe('passed');
    else expect(result).toMatchObject({ code: 'CTKVR_INVALID_OPTION', option: 'keys' });
  });
});
