/** Checks that every implementation refuses arguments that are no typed arrays with the same error. */
import { CtkvrError } from '@ctkvr/core';
import { expect } from 'vitest';

/**
 * Calls `run` with each typed array of `input` left out, as a plain list and as another class, and with a name that does not exist; expects
 * CTKVR_INVALID_OPTION that names it, each time.
 */
export async function expectTypedArrays<Input extends object>(
  input: Input,
  run: (changed: Input) => Promise<unknown>,
): Promise<void> {
  for (const [name, value] of Object.entries(input)) {
    if (!ArrayBuffer.isView(value)) continue;
    const numbers = Array.from(value as Float32Array);
    const other = value instanceof Float64Array ? Float32Array.from(numbers) : Float64Array.from(numbers);
    for (const wrong of [undefined, null, numbers, other, 'text', {}]) {
      expect(await refusal(() => run({ ...input, [name]: wrong })), `${name}: ${String(wrong)}`).toBe(name);
    }
  }
  expect(await refusal(() => run({ ...input, bogus: 1 }))).toBe('bogus');
}

/** Returns the option that a CTKVR_INVALID_OPTION names, or what else came. */
async function refusal(run: () => Promise<unknown>): Promise<unknown> {
  try {
    await run();
    return 'not refused';
  } catch (error) {
    return CtkvrError.isInstance(error) && error.code === 'CTKVR_INVALID_OPTION' ? error.fields.option : error;
  }
}
