/** Lets requests with a known API key in, as `Authorization: Bearer …` or `x-api-key: …`. */
import { timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { ApiError } from '../api-error.js';
import { type ApiKey, checkApiKeys, hashOf } from './api-key.js';
import { type Caller, callerWith } from './caller.js';

/** What load balancers ask, without a key: whether the server is up. */
const openPaths: ReadonlySet<string> = new Set(['/health', '/ready', '/openapi.json']);

export interface KeyRing {
  /** Bytes of the key's SHA-256, and whose it is. */
  readonly entries: readonly { readonly hash: Buffer; readonly caller: Caller }[];
}

/** @param maxQueued of the server. @throws {CtkvrError} CTKVR_INVALID_OPTION */
export function toKeyRing(keys: readonly ApiKey[], maxQueued: number): KeyRing {
  checkApiKeys(keys);
  return { entries: keys.map((key) => ({ hash: Buffer.from(key.sha256, 'hex'), caller: callerWith(key, maxQueued) })) };
}

/** Sets the request's caller. @throws {ApiError} 401 without a key, or with one that nobody has. */
export function authenticate(ring: KeyRing): MiddlewareHandler {
  return async (context, next) => {
    if (!openPaths.has(context.req.path)) {
      const [, bearer] = /^Bearer +(\S+) *$/i.exec(context.req.header('authorization') ?? '') ?? [];
      const given = bearer ?? context.req.header('x-api-key');
      const caller = given === undefined ? null : findCaller(ring, given);
      if (caller === null) {
        context.header('www-authenticate', 'Bearer');
        throw unauthorized(given === undefined ? 'This server wants an API key' : 'This API key is not known here');
      }
      context.set('caller', caller);
    }
    await next();
  };
}

/** Takes as long for every key: hashes are compared whole, and all of them, so that times say nothing about the keys there are. */
function findCaller({ entries }: KeyRing, given: string): Caller | null {
  const hash = hashOf(given);
  let found: Caller | null = null;
  for (const entry of entries) if (timingSafeEqual(entry.hash, hash)) found = entry.caller;
  return found;
}

function unauthorized(what: string): ApiError {
  const message = `${what}: send it as 'Authorization: Bearer <key>' or 'x-api-key: <key>'.`;
  return new ApiError(401, message, { code: 'invalid_api_key' });
}
