/** Which backend a call runs on: the reference, or the native binding that the caller passes in. */
import { CtkvrError } from './errors.js';

export interface BackendChoice<Native> {
  /** 'auto' (default): native when `native` is given, else reference. 'native': CTKVR_NATIVE_UNAVAILABLE without it. */
  readonly backend?: 'auto' | 'native' | 'reference';
  /** The native binary, from `loadBinding()` of @ctkvr/native. */
  readonly native?: Native;
}

/**
 * Returns the native binding to use, or undefined for the reference.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION, CTKVR_NATIVE_UNAVAILABLE.
 */
export function chooseBackend<Native>({ backend = 'auto', native }: BackendChoice<Native>): Native | undefined {
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
  return backend === 'reference' ? undefined : native;
}
