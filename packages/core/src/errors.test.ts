import { describe, expect, it } from 'vitest';
import { CtkvrError } from './errors.js';

describe('CtkvrError', () => {
  it('keeps code, fields and cause', () => {
    const cause = new Error('below');
    const error = new CtkvrError('CTKVR_CLOSED', 'used after close', { fields: { id: 3 }, cause });
    expect(error).toMatchObject({ name: 'CtkvrError', code: 'CTKVR_CLOSED', fields: { id: 3 }, cause });
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
