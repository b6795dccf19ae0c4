/** Errors as Anthropic's clients expect them. The field at fault and the kind are in the message; the status is the same. */
import type { ApiError, ErrorStatus } from './api-error.js';

const types: Readonly<Record<ErrorStatus, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  413: 'request_too_large',
  415: 'invalid_request_error',
  429: 'rate_limit_error',
  499: 'invalid_request_error',
  500: 'api_error',
  503: 'overloaded_error',
};

export function toAnthropicBody(error: ApiError) {
  const { status, message, retryAfterSeconds } = error;
  // Overloaded says: ask again later. Where that does not help, it is not said.
  const type = status === 503 && retryAfterSeconds === null ? 'api_error' : types[status];
  return { type: 'error', error: { type, message } };
}
