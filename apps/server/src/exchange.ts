/**
 * One request on its way to an answer, of any protocol: check, queue, run, answer whole or as a stream.
 *
 * One call of `serve` owns a request from its first byte to the end of the model's work, beyond the response's beginning. All that a
 * request takes is taken and given back inside it; it waits for the model and the queue, and never for the client.
 */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import type { Logger } from 'pino';
import { toApiError, toPrepareError } from './api-error.js';
import type { ChatEngine, ChatEvent, ChatFinish, PreparedChat, ScoredToken } from './chat-engine.js';
import { checkModel } from './check-model.js';
import { EventStream, type Frame } from './event-stream.js';
import type { AnswerHead, ParsedRequest, Protocol } from './protocol.js';
import { readJson } from './read-json.js';
import { RequestLifetime } from './request-lifetime.js';
import type { RequestQueue } from './request-queue.js';
import type { SessionInfo } from './sessions/document-sessions.js';
import { ownerOf } from './sessions/owner.js';
import { noSuchSession, toSessionError } from './sessions/session-error.js';

export interface ExchangeDeps {
  readonly engine: ChatEngine;
  readonly queue: RequestQueue;
  readonly logger: Logger;
  /** Aborts when running requests must end. */
  readonly stopSignal: AbortSignal;
  readonly keepAliveMs: number;
  readonly maxBodyBytes: number;
  /** Told of the work of each request as it begins. */
  readonly onWork: (work: Promise<void>) => void;
}

interface Exchange<R extends ParsedRequest> {
  readonly protocol: Protocol<R>;
  readonly deps: ExchangeDeps;
  readonly context: Context;
  readonly lifetime: RequestLifetime;
  readonly log: Logger;
  readonly head: AnswerHead;
  /** Sends the response, or the beginning of a stream; what fails later can no longer change its status. */
  readonly respond: (response: Response) => void;
}

/** Returns the handler of a protocol's route. */
export function exchange<R extends ParsedRequest>(
  protocol: Protocol<R>,
  deps: ExchangeDeps,
): (context: Context) => Promise<Response> {
  return (context) =>
    new Promise((respond, reject) => {
      const work = serve(protocol, deps, { context, respond });
      work.catch(reject);
      deps.onWork(work);
    });
}

/** What fails after `respond` was called has been told in the stream. @throws {ApiError} */
async function serve<R extends ParsedRequest>(
  protocol: Protocol<R>,
  deps: ExchangeDeps,
  { context, respond }: Pick<Exchange<R>, 'context' | 'respond'>,
): Promise<void> {
  const startedAt = performance.now();
  const lifetime = new RequestLifetime(context, deps.stopSignal);
  const id = `${protocol.idPrefix}${randomUUID()}`;
  const head = { id, created: Math.floor(Date.now() / 1000), model: deps.engine.modelId };
  const log = deps.logger.child({ request: id });
  let outcome: string | null = 'answered';
  try {
    await answer({ protocol, deps, context, lifetime, log, head, respond });
  } catch (error) {
    const failure = toApiError(lifetime.explain(error));
    outcome = failure.code;
    if (failure.status === 500 || failure.code === 'device_lost')
      log.error({ err: failure.cause ?? failure }, 'failed');
    throw failure;
  } finally {
    lifetime.end();
    log.info({ outcome, ms: Math.round(performance.now() - startedAt) }, 'ended');
  }
}

async function answer<R extends ParsedRequest>(exchange: Exchange<R>): Promise<void> {
  const { protocol, context, deps, lifetime } = exchange;
  const request = protocol.parse(await readJson(context, deps.maxBodyBytes));
  checkModel(request.model, deps.engine.modelId);
  await lifetime.turn();
  if (request.stream) await answerInFrames(exchange, request);
  else await answerWhole(exchange, request);
}

/** Prepares the prompt for `work`, and frees it when that has ended. */
async function withPrompt<R extends ParsedRequest, T>(
  { protocol, deps, context, lifetime }: Exchange<R>,
  request: R,
  work: (chat: PreparedChat) => Promise<T>,
): Promise<T> {
  const generation = { ...request.generation, owner: ownerOf(context) };
  const chat = await deps.engine.prepare(generation, lifetime.signal).catch((error: unknown) => {
    const why = lifetime.explain(error);
    throw generation.session === null ? toPrepareError(why, protocol.promptField) : toSessionError(why, 'session');
  });
  try {
    return await work(chat);
  } finally {
    chat.close?.();
  }
}

async function answerWhole<R extends ParsedRequest>(exchange: Exchange<R>, request: R): Promise<void> {
  let text = '';
  const tokens: ScoredToken[] = [];
  const onEvent = (event: ChatEvent) => {
    if (event.type !== 'text') return;
    text += event.text;
    tokens.push(...(event.tokens ?? []));
  };
  const { protocol, context, head } = exchange;
  await checkSession(exchange, request);
  const body = await withPrompt(exchange, request, async (chat) => {
    const finish = await run(exchange, chat, { onEvent });
    return protocol.whole(request, head, { text, tokens, finish, numPromptTokens: chat.numPromptTokens });
  });
  exchange.respond(context.json(body));
}

/** Returns the session that the request is about; null when about none. @throws {ApiError} 404 */
async function checkSession<R extends ParsedRequest>(
  { deps, context }: Exchange<R>,
  { generation: { session: id } }: R,
): Promise<SessionInfo | null> {
  if (id === null) return null;
  const session = await deps.engine.sessions?.get({ owner: ownerOf(context), id });
  if (!session) throw noSuchSession(id, 'session');
  return session;
}

/**
 * The response begins when the request has begun to wait (for a document, a place or memory) or to run; what fails until then is an error with
 * its own status. Later failures are a last frame with the error. The frames of a normal end come only when nothing can fail any more.
 */
async function answerInFrames<R extends ParsedRequest>(exchange: Exchange<R>, request: R): Promise<void> {
  const { protocol, deps, head, lifetime } = exchange;
  const stream = new EventStream({ keepAliveMs: deps.keepAliveMs, onCancel: () => lifetime.clientLeft() });
  let streamed = protocol.stream(request, head, 0); // to tell of a failure before the prompt is counted
  const send = (frames: readonly Frame[]) => {
    for (const frame of frames) stream.send(frame);
  };
  let begun = false;
  const begin = () => {
    if (!begun) exchange.respond(stream.toResponse(exchange.context));
    begun = true;
  };
  const onEvent = (event: ChatEvent) => {
    begin();
    if (event.type === 'opened') send(streamed.opened());
    if (event.type === 'text') send(streamed.text(event.text, event.tokens ?? [], event.readMap));
  };
  try {
    const session = await checkSession(exchange, request);
    if (session !== null && session.state !== 'ready' && session.state !== 'failed') begin();
    const finish = await withPrompt(exchange, request, (chat) => {
      streamed = protocol.stream(request, head, chat.numPromptTokens);
      return run(exchange, chat, { onEvent, onQueued: begin });
    });
    send(streamed.finished(finish));
  } catch (error) {
    if (begun) send(streamed.failed(toApiError(lifetime.explain(error))));
    throw error;
  } finally {
    stream.end();
  }
}

interface Listeners {
  /** Must not wait. */
  readonly onEvent: (event: ChatEvent) => void;
  readonly onQueued?: () => void;
}

/** Runs the request in a place of the queue. */
async function run<R extends ParsedRequest>(
  { deps, lifetime: { signal }, log }: Exchange<R>,
  chat: PreparedChat,
  { onEvent, onQueued }: Listeners,
): Promise<ChatFinish> {
  const work = async () => {
    log.info({ promptTokens: chat.numPromptTokens }, 'started');
    let finish: ChatFinish | null = null;
    for await (const event of chat.run(signal)) {
      signal.throwIfAborted();
      if (event.type === 'finish') finish = event.finish;
      else onEvent(event);
    }
    if (finish === null) throw new Error('the chat engine ended without a finish event');
    return finish;
  };
  return await deps.queue.run(signal, work, onQueued);
}
