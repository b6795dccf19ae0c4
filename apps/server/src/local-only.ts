/**
 * Keeps web pages out of a server that listens on this machine only. A page elsewhere can make its visitor's browser send requests
 * here, directly or by pointing its own host name at 127.0.0.1 (DNS rebinding); both show in the Host or Origin header.
 * Source: OWASP on cross-site request forgery and DNS rebinding (CWE-346, CWE-350).
 */
import type { MiddlewareHandler } from 'hono';
import { ApiError } from './api-error.js';

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]', '::1']);

/** Whether a host to bind to is reachable from this machine only. */
export function isLoopback(host: string): boolean {
  return loopbackNames.has(host);
}

/** Refuses requests whose Host or Origin is not this machine. @throws {ApiError} 403 */
export function localOnly(): MiddlewareHandler {
  return async (context, next) => {
    const origin = context.req.header('origin');
    if (!loopbackNames.has(new URL(context.req.url).hostname) || (origin !== undefined && !isLocalOrigin(origin))) {
      throw new ApiError(403, 'This server answers only requests made to and from this machine (localhost).', {
        code: 'forbidden_origin',
      });
    }
    await next();
  };
}

function isLocalOrigin(origin: string): boolean {
  return URL.canParse(origin) && loopbackNames.has(new URL(origin).hostname);
}
