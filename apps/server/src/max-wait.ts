/** How long a request wants to wait for its turn at most: `x-ctkvr-max-wait`, in seconds. Who would not wait longer learns so at once. */
import type { Context } from 'hono';
import { ApiError } from './api-error.js';

const NAME = 'x-ctkvr-max-wait';
const MAX_SECONDS = 86_400;

/** Milliseconds; undefined = as long as the server lets it. @throws {ApiError} 400 */
export function maxWaitOf(context: Context): number | undefined {
  const given = context.req.header(NAME);
  if (given === undefined) return undefined;
  const seconds = Number(given);
  if (given.trim() !== '' && seconds > 0 && seconds <= MAX_SECONDS) return seconds * 1000;
  const message = `The header ${NAME} must be seconds, above 0 and at most ${MAX_SECONDS}, got '${given.slice(0, 40)}'`;
  throw new ApiError(400, message, { code: 'invalid_value', param: NAME });
}
