/** Errors between the processes of this server: an ApiError stays one, every other is what core makes of it. */
import { type ErrorData, fromErrorData, toErrorData } from '@ctkvr/core';
import { ApiError, type ErrorStatus } from '../api-error.js';

export type RemoteErrorData =
  | { readonly type: 'api'; readonly status: ErrorStatus; readonly message: string; readonly options: ApiErrorFields }
  | { readonly type: 'other'; readonly data: ErrorData };

type ApiErrorFields = Pick<ApiError, 'param' | 'code'> & { readonly retryAfterSeconds?: number };

export function toRemoteError(error: unknown): RemoteErrorData {
  if (!(error instanceof ApiError)) return { type: 'other', data: toErrorData(error) };
  const { status, message, param, code, retryAfterSeconds } = error;
  const retry = retryAfterSeconds === null ? {} : { retryAfterSeconds };
  return { type: 'api', status, message, options: { param, code, ...retry } };
}

export function fromRemoteError(error: RemoteErrorData): Error {
  return error.type === 'api' ? new ApiError(error.status, error.message, error.options) : fromErrorData(error.data);
}
