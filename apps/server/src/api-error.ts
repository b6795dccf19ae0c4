/**
 * Errors as OpenAI clients expect them: an HTTP status and a body `{ error: { message, type, param, code } }`. Everything a route
 * throws becomes one of these in `toApiError`, so that no stack trace and no internal name leaves the server.
 */
import { CtkvrError, type CtkvrErrorCode } from '@ctkvr/core';

/** HTTP statuses this server answers with when something is wrong. */
export type ErrorStatus = 400 | 403 | 404 | 413 | 415 | 499 | 500 | 503;

export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: 'invalid_request_error' | 'server_error';
    readonly param: string | null;
    readonly code: string | null;
  };
}

interface ApiErrorOptions {
  /** Name of the request field at fault, such as `messages[2].content`. */
  readonly param?: string | null;
  /** Stable word for programs, such as `context_length_exceeded`. */
  readonly code?: string | null;
  /** Seconds after which a retry may succeed; sent as Retry-After. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

export class ApiError extends Error {
  readonly status: ErrorStatus;
  readonly param: string | null;
  readonly code: string | null;
  readonly retryAfterSeconds: number | null;

  constructor(status: ErrorStatus, message: string, options: ApiErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'ApiError';
    this.status = status;
    this.param = options.param ?? null;
    this.code = options.code ?? null;
    this.retryAfterSeconds = options.retryAfterSeconds ?? null;
  }

  /** The response body; also what an SSE error frame carries. */
  toBody(): ApiErrorBody {
    const type = this.status < 500 ? 'invalid_request_error' : 'server_error';
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }
}

/** What a CTkvr error means to a client. Codes that are not here are bugs or broken installations: 500 without details. */
const answers: Partial<Record<CtkvrErrorCode, { status: ErrorStatus; code: string; param?: string; retry?: number }>> =
  {
    CTKVR_CONTEXT_EXCEEDED: { status: 400, code: 'context_length_exceeded', param: 'messages' },
    CTKVR_INVALID_OPTION: { status: 400, code: 'invalid_value' },
    CTKVR_OUT_OF_MEMORY: { status: 503, code: 'insufficient_memory', retry: 5 },
    CTKVR_BUSY: { status: 503, code: 'overloaded', retry: 1 },
    CTKVR_CLOSED: { status: 503, code: 'shutting_down', retry: 5 },
    CTKVR_ABORTED: { status: 499, code: 'request_aborted' },
  };

/** Returns the error to send for anything thrown while a request was handled. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const answer = CtkvrError.isInstance(error) ? answers[error.code] : undefined;
  if (answer === undefined || !CtkvrError.isInstance(error)) {
    return new ApiError(500, 'The server failed to handle this request; its log says why.', {
      code: 'internal_error',
      cause: error,
    });
  }
  return new ApiError(answer.status, error.message, {
    code: answer.code,
    param: answer.param ?? null,
    cause: error,
    ...(answer.retry === undefined ? {} : { retryAfterSeconds: answer.retry }),
  });
}
