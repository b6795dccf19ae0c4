/** What is answered where no route is: 405 with the methods that the path has, else 404. */
import type { Context, Hono } from 'hono';
import { ApiError } from './api-error.js';
import { shortened } from './shortened.js';

const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

/** Sets the header that a 405 must have. */
export function noRoute(app: Hono, context: Context): ApiError {
  const { method, path } = context.req;
  const has = methods.filter((one) => app.router.match(one, path)[0].some(([[, route]]) => route.method === one));
  if (has.length === 0)
    return new ApiError(404, `No route for ${shortened(method)} ${shortened(path)}`, { code: 'not_found' });
  context.header('allow', has.join(', '));
  return new ApiError(405, `${path} takes ${has.join(' and ')}, not ${shortened(method)}`, {
    code: 'method_not_allowed',
  });
}
