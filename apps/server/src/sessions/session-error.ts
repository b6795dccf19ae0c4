/** What an error of a document session means to a client. */
import { CtkvrError } from '@ctkvr/core';
import { ApiError, toApiError, toPrepareError } from '../api-error.js';
import { shortened } from '../shortened.js';

export function noSuchSession(id: string, param: string | null = null): ApiError {
  return new ApiError(404, `There is no session '${shortened(id)}'`, { param, code: 'session_not_found' });
}

/** About a session that another model has than the one that is asked. */
export function readByAnother(
  id: string,
  { reader, asked }: { readonly reader: string; readonly asked: string },
): ApiError {
  const message = `The session '${shortened(id)}' was read by the model '${reader}': ask that one, not '${asked}'`;
  return new ApiError(400, message, { param: 'model', code: 'invalid_value' });
}

/** @param param the field at fault, if the request is. */
export function toSessionError(error: unknown, param: string | null): ApiError {
  if (!CtkvrError.isInstance(error)) return toApiError(error);
  const { code, message } = error;
  if (code === 'CTKVR_BAD_SNAPSHOT') return new ApiError(400, message, { param, code: 'bad_snapshot', cause: error });
  if (code === 'CTKVR_FILE_NOT_FOUND') {
    return new ApiError(404, 'This session is not there any more: its file was removed or damaged.', {
      param,
      code: 'session_not_found',
      cause: error,
    });
  }
  if (code === 'CTKVR_DISK_FULL') {
    return new ApiError(503, 'The disk is full.', { code: 'disk_full', cause: error, retryAfterSeconds: 60 });
  }
  return toPrepareError(error, param ?? 'session');
}
