/** Every request has an id, its client's or a new one, which its response and its lines in the log repeat. */
import { randomUUID } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';

/** Ids of clients that are taken over: they go into headers and logs, so they are short and plain. */
const usable = /^[\w.:-]{1,128}$/;

export const identifyRequests: MiddlewareHandler = async (context, next) => {
  const given = context.req.header('x-request-id') ?? '';
  const id = usable.test(given) ? given : randomUUID();
  context.set('requestId', id);
  context.header('x-request-id', id);
  context.header('request-id', id); // Anthropic's name for it
  await next();
};

export function requestIdOf(context: Context): string {
  return context.get('requestId') as string;
}
