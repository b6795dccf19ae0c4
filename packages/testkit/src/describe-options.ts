/** The test that no exported function of a package ignores an option that it does not know. */
import { CtkvrError } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';

/**
 * Declares the suite: each function of `exports` is called with an unknown option by `calls`, or named in `without` because it takes none.
 * @param calls by name, or `Class.method`; each spreads what it gets into the options of its call.
 */
export function describeOptions(
  exports: Readonly<Record<string, unknown>>,
  calls: Readonly<Record<string, (unknown: object) => unknown>>,
  without: readonly string[],
): void {
  describe('options', () => {
    it('every exported function is known to take options or not', () => {
      const functions = Object.keys(exports).filter((name) => typeof exports[name] === 'function');
      const named = new Set([...Object.keys(calls).map((name) => name.split('.')[0]), ...without]);
      expect(functions.filter((name) => !named.has(name))).toEqual([]);
    });

    it.each(Object.keys(calls))('%s refuses one that it does not know, by name', async (name) => {
      let thrown: unknown = 'nothing';
      try {
        const result = await calls[name]!({ bogusOption: 1 });
        if (typeof result === 'object' && result !== null && Symbol.asyncIterator in result) {
          await (result as AsyncGenerator<unknown>).next();
        }
      } catch (error) {
        thrown = error;
      }
      expect(CtkvrError.isInstance(thrown), String(thrown)).toBe(true);
      expect(thrown).toMatchObject({ code: 'CTKVR_INVALID_OPTION', fields: { option: 'bogusOption' } });
    });
  });
}
