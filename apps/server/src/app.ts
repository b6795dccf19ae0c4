/** The routes, on any engine: what `startServer` listens with and what tests call through `app.request()`. */
import { setMaxListeners } from 'node:events';
import { Hono } from 'hono';
import { type Logger, pino } from 'pino';
import { type CallerOptions, knownHostsOnly, localOnly, shareWithPages } from './allowed-callers.js';
import { toAnthropicBody } from './anthropic-error.js';
import { ApiError, toApiError } from './api-error.js';
import { chatCompletions } from './chat-completions.js';
import type { ChatEngine } from './chat-engine.js';
import { completions } from './completions.js';
import { countTokens } from './count-tokens.js';
import { exchange } from './exchange.js';
import type { ApiKey } from './keys/api-key.js';
import { authenticate, toKeyRing } from './keys/authenticate.js';
import { messages } from './messages.js';
import { ServerMetrics } from './metrics/server-metrics.js';
import { noRoute } from './no-route.js';
import { addOpenApi } from './openapi/document.js';
import { addPageRoutes } from './page-routes.js';
import type { ParsedRequest, Protocol } from './protocol.js';
import { identifyRequests, requestIdOf } from './request-id.js';
import { RequestQueue } from './request-queue.js';
import { responses } from './responses.js';
import { ServedModels } from './served-models.js';
import { ServedSessions } from './sessions/served-sessions.js';
import { addSessionRoutes } from './sessions/session-routes.js';
import { addStatusRoutes } from './status-routes.js';
import { addTokenRoutes } from './token-routes.js';

export interface AppDeps extends CallerOptions {
  /** One engine for each model. */
  readonly engine: ChatEngine | readonly ChatEngine[];
  /** Default: as `defaultQueueOptions` says. */
  readonly queue?: RequestQueue;
  /** Who may call. Default: everyone. */
  readonly apiKeys?: readonly ApiKey[] | undefined;
  /** Default: silent. */
  readonly logger?: Logger;
  /** Aborts every running request. Default: never. */
  readonly stopSignal?: AbortSignal;
  /** Refuse requests that come from other machines' web pages, or under other names. Default true. */
  readonly localOnly?: boolean;
  /** Largest body, bytes. Default 32 MiB: some ten times the text that a context of a million tokens holds. */
  readonly maxBodyBytes?: number;
  /** Silence in a stream after which a comment is sent, ms. Default 10,000. */
  readonly keepAliveMs?: number;
  /** Document sessions of one owner. Default 1,000. */
  readonly maxSessions?: number;
  /** Told of the work of each request as it begins; until it settles, which may be after its response, it uses the engine. */
  readonly onWork?: (work: Promise<void>) => void;
}

/** Largest body, bytes, where an answer has a text's tokens or their number: they are no work of the model's, so nothing else bounds them. */
const MAX_TOKEN_BODY_BYTES = 4 * 1024 * 1024;

/** Letters of a path that a log line holds; clients can send kilobytes. */
const MAX_LOGGED_PATH = 200;

/** Returns the application. It owns nothing: engines and queue are the caller's to close. */
export function createApp(deps: AppDeps): Hono {
  const { logger = pino({ level: 'silent' }), maxBodyBytes = 32 * 1024 * 1024 } = deps;
  const models = new ServedModels(deps.engine);
  const queue = deps.queue ?? new RequestQueue();
  const stopSignal = deps.stopSignal ?? new AbortController().signal;
  setMaxListeners(0, stopSignal); // each request listens: many are no leak
  const app = new Hono();
  app.use(identifyRequests);
  // Requests for the model log themselves, with their id. Of the others, only those that are refused leave a line.
  const toldThemselves = new WeakSet<Request>();
  app.use(async (context, next) => {
    await next();
    const { method, path, raw } = context.req;
    const { status } = context.res;
    if (status < 400 || status >= 500 || toldThemselves.has(raw)) return; // what fails is told by onError
    logger.info({ requestId: requestIdOf(context), method, path: path.slice(0, MAX_LOGGED_PATH), status }, 'refused');
  });

  app.onError((error, context) => {
    const failure = toApiError(error);
    // An ApiError that comes here was logged where it was made, if it had to be.
    if (failure !== error) logger.error({ err: error }, 'request failed');
    if (failure.retryAfterSeconds !== null) context.header('retry-after', String(failure.retryAfterSeconds));
    return context.json(errorBody(failure, context.req.path), { status: failure.status as 400 });
  });
  app.notFound((context) => {
    const failure = noRoute(app, context);
    return context.json(errorBody(failure, context.req.path), { status: failure.status as 404 });
  });
  if (deps.localOnly ?? true) app.use(localOnly(deps));
  else if (deps.allowedHosts !== undefined) app.use(knownHostsOnly(deps.allowedHosts));
  app.use(shareWithPages(deps));
  addPageRoutes(app); // before the keys: the page asks for one
  if (deps.apiKeys !== undefined) app.use(authenticate(toKeyRing(deps.apiKeys, queue.maxQueued)));

  const sessions = new ServedSessions(models);
  const modelIds = models.all.map((engine) => engine.modelId);
  addOpenApi(app, { modelIds, hasSessions: sessions.areKept });
  const metrics = new ServerMetrics({ models, queue });
  app.get('/metrics', async (context) =>
    context.body(await metrics.page(), 200, { 'content-type': metrics.contentType }),
  );
  addStatusRoutes(app, { models, queue });
  const tokenDeps = { models, maxBodyBytes: Math.min(maxBodyBytes, MAX_TOKEN_BODY_BYTES) };
  addTokenRoutes(app, tokenDeps);
  app.post('/v1/embeddings', () => {
    throw noEmbeddings();
  });
  const { keepAliveMs = 10_000, onWork = () => {} } = deps;
  if (sessions.areKept) {
    const { maxSessions } = deps;
    const limits = maxSessions === undefined ? {} : { maxSessions };
    addSessionRoutes(app, { sessions, maxBodyBytes, keepAliveMs, stopSignal, ...limits });
  }
  const exchangeDeps = { models, sessions, queue, metrics, logger, stopSignal, maxBodyBytes, keepAliveMs, onWork };
  const serve = <R extends ParsedRequest>(path: string, protocol: Protocol<R>) => {
    const handle = exchange(protocol, exchangeDeps);
    app.post(path, (context) => {
      toldThemselves.add(context.req.raw);
      return handle(context);
    });
  };
  serve('/v1/chat/completions', chatCompletions);
  serve('/v1/completions', completions);
  serve('/v1/responses', responses);
  serve('/v1/messages', messages);
  app.post('/v1/messages/count_tokens', countTokens(tokenDeps));
  return app;
}

/** An error in the shape of the protocol whose route was asked. */
function errorBody(error: ApiError, path: string): object {
  return path.startsWith('/v1/messages') ? toAnthropicBody(error) : error.toBody();
}

/** Not a 501, which OpenAI's clients would send again. */
function noEmbeddings(): ApiError {
  return new ApiError(400, 'This server generates text; it makes no embeddings. Run an embedding model beside it.', {
    code: 'unsupported_endpoint',
  });
}
