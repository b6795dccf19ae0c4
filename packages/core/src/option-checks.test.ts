import { describe, expect, it } from 'vitest';
import { CtkvrError } from './errors.js';
import { nearestName } from './nearest-name.js';
import { checkOption, checkOptions } from './option-checks.js';
import * as takes from './option-kinds.js';

interface Options {
  readonly maxTokens: number;
  readonly sampling?: object;
  readonly signal?: AbortSignal;
}
const checks = {
  maxTokens: takes.integer(1, 8),
  sampling: takes.optional(takes.object),
  signal: takes.optional(takes.abortSignal),
};
const check = (options: unknown) => checkOptions('run', options as Options, checks, { sampling: ['temperature'] });

function refusal(run: () => void): unknown {
  try {
    run();
  } catch (error) {
    return CtkvrError.isInstance(error) ? { code: error.code, message: error.message, ...error.fields } : error;
  }
  return 'passed';
}

describe('checkOptions', () => {
  it('passes what is right; undefined counts as left out', () => {
    expect(refusal(() => check({ maxTokens: 8, sampling: undefined, signal: new AbortController().signal }))).toBe(
      'passed',
    );
    expect(refusal(() => check(Object.assign(Object.create(null), { maxTokens: 1 })))).toBe('passed');
  });

  it.each([
    ['max_tokens', 'maxTokens', 'did you mean maxTokens?'],
    ['maxtoken', 'maxTokens', 'did you mean maxTokens?'],
    ['temprature', 'sampling.temperature', 'did you mean sampling: { temperature }?'],
    ['colour', null, 'the options are maxTokens, sampling, signal'],
  ])('%s is refused, and %s named', (option, nearest, advice) => {
    const message = `run: there is no option ${option}; ${advice}`;
    const expected = { code: 'CTKVR_INVALID_OPTION', message, op: 'run', option, nearest };
    expect(refusal(() => check({ maxTokens: 1, [option]: 0 }))).toEqual(expected);
    // Whatever its value, and inherited too: what reads the options would read it.
    expect(refusal(() => check(Object.create({ maxTokens: 1, [option]: undefined })))).toEqual(expected);
  });

  it.each([
    ['missing', {}, 'maxTokens', 'undefined'],
    ['too large', { maxTokens: 9 }, 'maxTokens', '9'],
    ['a text', { maxTokens: '3' }, 'maxTokens', '"3"'],
    ['NaN', { maxTokens: Number.NaN }, 'maxTokens', 'NaN'],
    ['null', { maxTokens: 1, sampling: null }, 'sampling', 'null'],
    ['a list', { maxTokens: 1, sampling: [] }, 'sampling', 'a list'],
    ['no signal', { maxTokens: 1, signal: {} }, 'signal', 'an object (Object)'],
  ])('%s is refused with what came', (_name, options, option, actual) => {
    expect(refusal(() => check(options))).toMatchObject({ code: 'CTKVR_INVALID_OPTION', option, actual });
  });

  it.each([[null], [[]], ['text'], [3], [new Float32Array(1)]])('%s are no options', (options) => {
    expect(refusal(() => check(options))).toMatchObject({ code: 'CTKVR_INVALID_OPTION', option: 'options' });
  });

  it('a buffer of another class says how to convert it; a Buffer is a Uint8Array', () => {
    const given = (value: unknown) => refusal(() => checkOption('run', 'keys', value, takes.float32));
    expect(given([1, 2])).toMatchObject({ message: expect.stringContaining('convert it with Float32Array.from') });
    expect(given(new Float64Array(2))).toMatchObject({ message: expect.stringContaining('Float32Array.from') });
    expect(given(undefined)).toMatchObject({ message: 'run: keys must be a Float32Array, got undefined' });
    expect(refusal(() => checkOption('run', 'image', Buffer.from('x'), takes.bytes))).toBe('passed');
  });
});

describe('nearestName', () => {
  const names = ['contextLength', 'numThreads', 'onProgress', 'onDownloadProgress', 'signal'];
  it.each([
    ['threads', 'numThreads'],
    ['num_threads', 'numThreads'],
    ['ContextLength', 'contextLength'],
    ['context', 'contextLength'],
    ['onprogres', 'onProgress'],
    ['abortSignal', 'signal'],
    ['seed', null],
    ['', null],
  ])('%s: %s', (name, expected) => {
    expect(nearestName(name, names)).toBe(expected);
  });
});
