import { CtkvrError } from '@ctkvr/core';

/** Whether an engine has said that nothing of its sequences is left, and that it will run nothing any more. Internal to this package. */
export function isDeviceLost(error: unknown): error is CtkvrError {
  return CtkvrError.isInstance(error) && error.code === 'CTKVR_DEVICE_LOST';
}
