import { describe, expect, it } from 'vitest';
import { CtkvrError } from './errors.js';

describe('CtkvrError', () => {
  it('keeps code, fields and cause', () => {
    const cause = new Error('below');
    const error = new CtkvrError('CTKVR_CLOSED', 'used after close', { fields: { id: 3 }, cause });
    expect(error).toMatchObject({ name: 'CtkvrError', code: 'CTKVR_CLOSED', fields: { id: 3 }, cause });
  });
  it('of an abort has the name that the platform gives it, and stays a CtkvrError', () => {
    const error = new CtkvrError('CTKVR_ABORTED', 'cancelled');
    expect(error).toMatchObject({ name: 'AbortError', code: 'CTKVR_ABORTED' });
    expect(CtkvrError.isInstance(error)).toBe(true);
    expect(String(error)).toBe('AbortError: cancelled');
  });
  it('puts its remedy behind the problem', () => {
    const error = new CtkvrError('CTKVR_BUSY', 'it is busy', { remedy: 'wait' });
    expect(error).toMatchObject({ message: 'it is busy; wait', remedy: 'wait' });
    expect(new CtkvrError('CTKVR_BUSY', 'it is busy')).toMatchObject({ message: 'it is busy', remedy: null });
  });
  it('is recognised when it comes from another copy of the package, and nothing else is', () => {
    const foreign = Object.assign(new Error('x'), { [Symbol.for('ctkvr.error')]: true });
    expect(CtkvrError.isInstance(foreign)).toBe(true);
    expect(CtkvrError.isInstance(new CtkvrError('CTKVR_BUSY', 'x'))).toBe(true);
    for (const other of [new Error('x'), null, undefined, 'CTKVR_BUSY', { code: 'CTKVR_BUSY' }]) {
      expect(CtkvrError.isInstance(other)).toBe(false);
    }
  });
});
