/**
 * Who may call: web pages by their origin, and names by which this server is reached. A page elsewhere can make its visitor's browser
 * send requests here, directly or by pointing its own host name at 127.0.0.1 (DNS rebinding); both show in the Host or Origin header.
 * This machine's own pages and names are always allowed; others are named by whoever starts the server.
 * Source: OWASP on cross-site request forgery and DNS rebinding (CWE-346, CWE-350); the Fetch standard on CORS.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { cors } from 'hono/cors';
import { ApiError } from './api-error.js';

export interface CallerOptions {
  /** Origins of further web pages that may call and read answers, such as `https://chat.example.com`; `*` = all. Default none. */
  readonly allowedOrigins?: readonly string[] | undefined;
  /**
   * Further host names, without port, under which the server is reached. Default none where it listens on this machine only, else any: an
   * address that others reach has names that only its operator knows.
   */
  readonly allowedHosts?: readonly string[] | undefined;
}

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]', '::1']);

/** Whether a host to bind to is reachable from this machine only. */
export function isLoopback(host: string): boolean {
  return loopbackNames.has(host);
}

/** Refuses requests whose Host or Origin is neither this machine nor allowed. @throws {ApiError} 403 with the remedy. */
export function localOnly({ allowedOrigins = [], allowedHosts = [] }: CallerOptions): MiddlewareHandler {
  return async (context, next) => {
    checkHost(context, allowedHosts);
    const origin = context.req.header('origin');
    if (origin !== undefined && !isAllowedOrigin(origin, allowedOrigins)) {
      throw forbidden({
        code: 'forbidden_origin',
        what: `from pages of '${origin}'`,
        flag: `--allow-origin ${origin}`,
        option: 'allowedOrigins',
      });
    }
    await next();
  };
}

/** Refuses requests under another name than this machine's own or an allowed one. @throws {ApiError} 403 with the remedy. */
export function knownHostsOnly(allowedHosts: readonly string[]): MiddlewareHandler {
  return async (context, next) => {
    checkHost(context, allowedHosts);
    await next();
  };
}

function checkHost(context: Context, allowedHosts: readonly string[]): void {
  const { hostname } = new URL(context.req.url);
  if (loopbackNames.has(hostname) || allowedHosts.includes(hostname)) return;
  throw forbidden({
    code: 'forbidden_host',
    what: `under the name '${hostname}'`,
    flag: `--allow-host ${hostname}`,
    option: 'allowedHosts',
  });
}

/** Answers preflight requests, and lets allowed pages read answers. */
export function shareWithPages({ allowedOrigins = [] }: CallerOptions): MiddlewareHandler {
  return cors({
    origin: (origin) => (isAllowedOrigin(origin, allowedOrigins) ? origin : null),
    allowMethods: ['GET', 'POST', 'PATCH', 'DELETE'],
    exposeHeaders: ['retry-after', 'x-request-id'],
    maxAge: 600,
  });
}

function isAllowedOrigin(origin: string, allowed: readonly string[]): boolean {
  if (allowed.includes('*') || allowed.includes(origin)) return true;
  return URL.canParse(origin) && loopbackNames.has(new URL(origin).hostname);
}

function forbidden(refused: { code: string; what: string; flag: string; option: string }): ApiError {
  const { code, what, flag, option } = refused;
  const message = `This server does not answer ${what}. If that is yours, start it with ${flag} (option ${option}).`;
  return new ApiError(403, message, { code });
}
