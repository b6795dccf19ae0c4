import { describe, expect, it } from 'vitest';
import { fromErrorData, toErrorData } from './error-data.js';
import { CtkvrError } from './errors.js';

const roundTrip = (error: unknown) => fromErrorData(structuredClone(toErrorData(error)));

describe('an error as data', () => {
  it('is the same CtkvrError again', () => {
    const cause = Object.assign(new RangeError('below'), { secret: 1 });
    const error = new CtkvrError('CTKVR_DISK_FULL', 'no room', {
      fields: { path: 'a', bytes: 3 },
      remedy: 'free some',
      cause,
    });
    const { stack } = error;
    const again = roundTrip(error);
    expect(CtkvrError.isInstance(again)).toBe(true);
    expect(again).toMatchObject({
      name: 'CtkvrError',
      code: 'CTKVR_DISK_FULL',
      message: 'no room; free some',
      remedy: 'free some',
      fields: { path: 'a', bytes: 3 },
      stack,
      cause: { name: 'RangeError', message: 'below' },
    });
    expect(again.cause).not.toHaveProperty('secret');
    expect(roundTrip(new CtkvrError('CTKVR_ABORTED', 'left')).name).toBe('AbortError');
  });
  it('keeps the name of others, and takes whatever was thrown', () => {
    expect(roundTrip(new DOMException('left', 'AbortError'))).toMatchObject({ name: 'AbortError', message: 'left' });
    expect(roundTrip('a text').message).toBe('a text');
    expect(roundTrip(undefined).message).toBe('undefined');
  });
  it('ends where causes go round in a circle', () => {
    const error = new Error('a');
    error.cause = error;
    let depth = 0;
    for (let at: unknown = roundTrip(error); at instanceof Error; at = at.cause) depth += 1;
    expect(depth).toBeLessThan(10);
  });
});
