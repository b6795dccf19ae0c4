/** One HTTP GET or HEAD whose failures are CtkvrErrors naming the address and the remedy. Certificates: NODE_EXTRA_CA_CERTS is honoured by Node. */
import { CtkvrError } from '@ctkvr/core';
import { abortedError } from './file-errors.js';

export interface HttpRequest {
  readonly url: string;
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  /** 'manual' returns the redirect itself. Default 'follow'. */
  readonly redirect?: 'follow' | 'manual';
  readonly signal?: AbortSignal | undefined;
}

/**
 * Returns the response, whatever its status.
 * @throws {CtkvrError} CTKVR_DOWNLOAD_FAILED when the server cannot be reached; CTKVR_ABORTED when `signal` fired.
 */
export async function httpRequest(request: HttpRequest): Promise<Response> {
  const { url, method = 'GET', headers = {}, redirect = 'follow', signal } = request;
  try {
    return await fetch(url, {
      method,
      headers: { 'user-agent': 'ctkvr', ...headers },
      redirect,
      ...(signal ? { signal } : {}),
    });
  } catch (cause) {
    if (signal?.aborted) throw abortedError(`the download of ${url}`, cause);
    throw unreachable(url, cause);
  }
}

/** Returns the error for a response whose status is not what was asked for. `hint` is the remedy when the caller knows a better one. */
export function httpStatusError(url: string, status: number, hint = 'try again later'): CtkvrError {
  return new CtkvrError(
    'CTKVR_DOWNLOAD_FAILED',
    `${withoutCredentials(url)} answered with HTTP status ${status}: ${hint}`,
    {
      fields: { url: withoutCredentials(url), status },
    },
  );
}

/** Returns the error for a connection that could not be made or broke off. */
export function unreachable(url: string, cause: unknown): CtkvrError {
  const reason = rootReason(cause);
  return new CtkvrError(
    'CTKVR_DOWNLOAD_FAILED',
    `${withoutCredentials(url)} could not be reached (${reason}): check the network connection and try again, or pass the path of a file you have`,
    { fields: { url: withoutCredentials(url), reason }, cause },
  );
}

/** An address that may stand in a message: user name and password taken out. */
export function withoutCredentials(url: string): string {
  if (!URL.canParse(url)) return url;
  const parsed = new URL(url);
  if (!parsed.username && !parsed.password) return url;
  parsed.username = '';
  parsed.password = '';
  return parsed.href;
}

/** Splits user name and password off an address, for fetch refuses them there. Returns the header that carries them. */
export function basicAuthorization(url: string): { url: string; headers: Record<string, string> } {
  if (!URL.canParse(url)) return { url, headers: {} };
  const { username, password } = new URL(url);
  if (!username && !password) return { url, headers: {} };
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64');
  return { url: withoutCredentials(url), headers: { authorization: `Basic ${credentials}` } };
}

/** fetch wraps the socket's error; its code is what tells a user something. */
function rootReason(cause: unknown): string {
  let current = cause;
  let reason = cause instanceof Error ? cause.message : String(cause);
  for (let depth = 0; depth < 8 && current instanceof Error; depth++) {
    const code = (current as NodeJS.ErrnoException).code;
    if (typeof code === 'string') reason = code;
    current = current instanceof AggregateError ? current.errors[0] : current.cause;
  }
  return reason;
}
