/** Which backend a caller asked for. The reference needs nothing; the native one is passed in by whoever has it. */
import { CtkvrError } from '@ctkvr/core';
import type { BackendChoice } from './build-input.js';
import type { NativeIndexBinding } from './native-seam.js';

/** Returns the native binary to use, or null for the reference. @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE. */
export function chooseBackend({ backend = 'auto', native }: BackendChoice): NativeIndexBinding | null {
  if (!['auto', 'native', 'reference'].includes(backend)) {
    throw new CtkvrError('CTKVR_INVALID_OPTION', `backend must be 'auto', 'native' or 'reference', got '${backend}'`, {
      fields: { option: 'backend', actual: String(backend) },
    });
  }
  if (backend === 'native' && native === undefined) {
    throw new CtkvrError(
      'CTKVR_NATIVE_UNAVAILABLE',
      "backend 'native' needs the binary: pass native: loadBinding() from @ctkvr/native, or use backend 'auto'",
    );
  }
  return backend === 'reference' ? null : (native ?? null);
}
