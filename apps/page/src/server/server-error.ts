/** What the server answered in place of what was asked for; in plain words: `explain`. */
export class ServerError extends Error {
  /** HTTP status; 0 = an error inside a stream, or a stream that was cut. */
  readonly status: number;
  readonly code: string | null;
  /** Seconds after which the server asks to be tried again. */
  readonly retryAfter: number | null;

  constructor(
    message: string,
    { status = 0, code = null, retryAfter = null }: Partial<Omit<ServerError, keyof Error>> = {},
  ) {
    super(message);
    this.name = 'ServerError';
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Reads the error of a response that is not ok. Something between page and server may answer in another form. */
export async function readServerError(response: Response): Promise<ServerError> {
  const { status } = response;
  const retryAfter = Number(response.headers.get('retry-after')) || null;
  const body = (await response.json().catch(() => null)) as { error?: { message?: string; code?: string } } | null;
  const message = body?.error?.message ?? `The server answered with status ${status}.`;
  return new ServerError(message, { status, code: body?.error?.code ?? null, retryAfter });
}
