import { describe, expect, it } from 'vitest';
import { mapThrownErrors } from './map-thrown-errors.js';

const thrown = () => new Error(JSON.stringify({ code: 'CTKVR_CLOSED', message: 'closed', fields: {} }));

/** Has the members a class of a native binary can have. */
class Box {
  static make(): Box {
    return new Box();
  }
  static refuse(): never {
    throw thrown();
  }
  get size(): number {
    throw thrown();
  }
  open(): Promise<number> {
    return Promise.reject(thrown());
  }
  read(): number {
    return 7;
  }
  isSame(other: unknown): boolean {
    return other instanceof Box;
  }
}

describe('mapThrownErrors', () => {
  const exports = mapThrownErrors({
    Box,
    version: '1',
    fail: () => {
      throw thrown();
    },
  }) as unknown as { Box: typeof Box; version: string; fail(): void };

  it('maps functions, methods, getters, statics and rejections', async () => {
    const box = exports.Box.make();
    expect(() => exports.fail()).toThrowError(expect.objectContaining({ code: 'CTKVR_CLOSED' }));
    expect(() => exports.Box.refuse()).toThrowError(expect.objectContaining({ code: 'CTKVR_CLOSED' }));
    expect(() => box.size).toThrowError(expect.objectContaining({ code: 'CTKVR_CLOSED' }));
    await expect(box.open()).rejects.toMatchObject({ code: 'CTKVR_CLOSED', message: 'closed' });
  });

  it('maps functions of the old kind, as a native binary exports them', () => {
    const sloppy = new Function('throw new Error(\'{"code":"CTKVR_BUSY","message":"busy"}\')');
    expect(Object.getOwnPropertyNames(sloppy)).toContain('caller');
    const { call } = mapThrownErrors({ call: sloppy }) as unknown as { call(): void };
    expect(call).toThrowError(expect.objectContaining({ code: 'CTKVR_BUSY', message: 'busy' }));
  });

  it('maps static functions that cannot be changed, as a native class has them', async () => {
    class Fixed {
      read(): number {
        throw thrown();
      }
    }
    Object.defineProperty(Fixed, 'make', { value: () => Promise.reject(thrown()) });
    type Exports = { Fixed: { make(): Promise<Fixed>; prototype: Fixed } };
    const first = mapThrownErrors({ Fixed }) as unknown as Exports;
    const again = mapThrownErrors({ Fixed }) as unknown as Exports;
    for (const { Fixed: changed } of [first, again]) {
      await expect(changed.make()).rejects.toMatchObject({ code: 'CTKVR_CLOSED', message: 'closed' });
    }
    expect(() => new Fixed().read()).toThrowError(expect.objectContaining({ code: 'CTKVR_CLOSED' }));
  });

  it('leaves results, plain values and the identity of classes as they are', () => {
    const box = exports.Box.make();
    expect(box.read()).toBe(7);
    expect(exports.version).toBe('1');
    expect(exports.Box).toBe(Box);
    expect(box.isSame(new Box())).toBe(true);
  });
});
