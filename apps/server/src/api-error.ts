/**
 * Errors as OpenAI clients expect them: an HTTP status and a body `{ error: { message, type, param, code } }`. Everything a route
 * throws becomes one of these in `toApiError`, so that no stack trace and no internal name leaves the server. The type says whose
 * fault it is: only what the client can fix is an `invalid_request_error`.
 */
import { CtkvrError, type CtkvrErrorCode } from '@ctkvr/core';

/** HTTP statuses this server answers with when something is wrong, and the type that each has in the body. */
const types = {
  400: 'invalid_request_error',
  401: 'invalid_request_error',
  403: 'invalid_request_error',
  404: 'invalid_request_error',
  405: 'invalid_request_error',
  413: 'invalid_request_error',
  415: 'invalid_request_error',
  429: 'rate_limit_error',
  499: 'invalid_request_error', // the client left: read by logs and proxies only
  500: 'server_error',
  503: 'server_error',
} as const;

export type ErrorStatus = keyof typeof types;

export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: (typeof types)[ErrorStatus];
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
    return { error: { message: this.message, type: types[this.status], param: this.param, code: this.code } };
  }
}

/** Why a request ends when the server stops. */
export function shuttingDown(): ApiError {
  return new ApiError(503, 'The server is shutting down.', { code: 'shutting_down', retryAfterSeconds: 5 });
}

/** Why a request ends when its client has left. */
export function clientLeft(cause?: unknown): ApiError {
  return new ApiError(499, 'The client closed the connection before it had its answer.', {
    code: 'client_left',
    cause,
  });
}

interface Answer {
  readonly status: ErrorStatus;
  readonly code: string;
  readonly retryAfterSeconds?: number;
}

/** What a CTkvr error means to a client. Codes that are not here are bugs or broken installations: 500 without details. */
const answers: Partial<Record<CtkvrErrorCode, Answer>> = {
  CTKVR_OUT_OF_MEMORY: { status: 503, code: 'insufficient_memory', retryAfterSeconds: 5 },
  CTKVR_OVERLOADED: { status: 429, code: 'queue_full', retryAfterSeconds: 2 },
  CTKVR_BUSY: { status: 503, code: 'overloaded', retryAfterSeconds: 1 },
  CTKVR_CLOSED: { status: 503, code: 'shutting_down', retryAfterSeconds: 5 },
  CTKVR_ENGINE_LOST: { status: 503, code: 'engine_lost', retryAfterSeconds: 5 },
  CTKVR_ENGINE_FAILED: { status: 503, code: 'engine_failed' }, // as below
  CTKVR_DEVICE_LOST: { status: 503, code: 'device_lost' }, // to ask again helps only once the server was started again
  CTKVR_GRAMMAR_FAILED: { status: 400, code: 'grammar_too_complex' },
  CTKVR_ABORTED: { status: 503, code: 'request_cancelled', retryAfterSeconds: 1 },
};

/** Errors that are the client's fault only while its prompt is rendered and counted; elsewhere they are bugs of ours. */
const promptFaults: Partial<Record<CtkvrErrorCode, Answer>> = {
  CTKVR_CONTEXT_EXCEEDED: { status: 400, code: 'context_length_exceeded' },
  CTKVR_INVALID_OPTION: { status: 400, code: 'invalid_value' },
};

/** Returns the error to send for anything thrown while a request was handled. */
export function toApiError(error: unknown): ApiError {
  return (
    translate(error, answers) ??
    new ApiError(500, 'The server failed to handle this request; its log says why.', {
      code: 'internal_error',
      cause: error,
    })
  );
}

/** The same for what `ChatEngine.prepare` throws, which may be the fault of the prompt. @param promptField its name. */
export function toPrepareError(error: unknown, promptField: string): ApiError {
  return translate(error, promptFaults, promptField) ?? toApiError(error);
}

function translate(
  error: unknown,
  table: Partial<Record<CtkvrErrorCode, Answer>>,
  param: string | null = null,
): ApiError | null {
  if (error instanceof ApiError) return error;
  if (!CtkvrError.isInstance(error)) return null;
  const answer = table[error.code];
  if (answer === undefined) return null;
  // A remedy names options of the TypeScript interface, which an HTTP client does not have.
  const message = error.remedy === null ? error.message : error.message.slice(0, -`; ${error.remedy}`.length);
  return new ApiError(answer.status, message, { ...answer, param, cause: error });
}
