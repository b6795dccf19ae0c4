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
import { frameOfChoice, joinBodies, joinEnds, type RunningChoice, requestOfChoice, runChoices } from './choices.js';
import { EventStream, type Frame } from './event-stream.js';
import { cacheNamespace, callerOf } from './keys/caller.js';
import { maxWaitOf } from './max-wait.js';
import type { RequestRecord } from './metrics/request-record.js';
import type { ServerMetrics } from './metrics/server-metrics.js';
import type { AnswerHead, ParsedRequest, Protocol, StreamedAnswer } from './protocol.js';
import { readJson } from './read-json.js';
import { requestIdOf } from './request-id.js';
import { RequestLifetime } from './request-lifetime.js';
import type { RequestQueue, Slot } from './request-queue.js';
import type { ServedModels } from './served-models.js';
import type { SessionInfo } from './sessions/document-sessions.js';
import { ownerOf } from './sessions/owner.js';
import type { ServedSessions } from './sessions/served-sessions.js';
import { noSuchSession, readByAnother, toSessionError } from './sessions/session-error.js';
import type { AnswerCall } from './tools/tool-use.js';

export interface ExchangeDeps {
  readonly models: ServedModels;
  readonly sessions: ServedSessions;
  readonly queue: RequestQueue;
  readonly metrics: ServerMetrics;
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
  readonly engine: ChatEngine;
  readonly deps: ExchangeDeps;
  readonly context: Context;
  readonly lifetime: RequestLifetime;
  readonly log: Logger;
  readonly record: RequestRecord;
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
  const caller = callerOf(context);
  const log = deps.logger.child({ request: id, requestId: requestIdOf(context), caller: caller.name });
  let record: RequestRecord | null = null;
  let outcome: string | null = 'answered';
  try {
    const request = protocol.parse(await readJson(context, deps.maxBodyBytes));
    const engine = deps.models.find(request.model);
    record = deps.metrics.begin({ model: engine.modelId, caller: caller.name });
    await lifetime.turn();
    const head = { id, created: Math.floor(Date.now() / 1000), model: engine.modelId };
    const exchange = { protocol, engine, deps, context, lifetime, log, record, head, respond };
    await (request.stream ? answerInFrames(exchange, request) : answerWhole(exchange, request));
  } catch (error) {
    const failure = toApiError(lifetime.explain(error));
    outcome = failure.code;
    if (failure.status === 500 || failure.code === 'device_lost')
      log.error({ err: failure.cause ?? failure }, 'failed');
    throw failure;
  } finally {
    lifetime.end();
    (record ?? deps.metrics.begin({ model: '', caller: caller.name })).end(outcome);
    log.info({ outcome, ms: Math.round(performance.now() - startedAt) }, 'ended');
  }
}

/** Prepares the prompt of a choice for `work`, and frees it when that has ended. */
async function withPrompt<R extends ParsedRequest, T>(
  { protocol, engine, context, lifetime }: Exchange<R>,
  request: R,
  { index, signal }: RunningChoice,
  work: (chat: PreparedChat) => Promise<T>,
): Promise<T> {
  const generation = requestOfChoice(request.generation, index);
  const cacheSalt = cacheNamespace(callerOf(context), generation.cacheSalt);
  const asked = { ...generation, cacheSalt, owner: ownerOf(context) };
  const chat = await engine.prepare(asked, signal).catch((error: unknown) => {
    const why = lifetime.explain(error);
    throw asked.sessionId === null ? toPrepareError(why, protocol.promptField) : toSessionError(why, 'session');
  });
  try {
    return await work(chat);
  } finally {
    chat.close?.();
  }
}

/** Returns the session that the request is about; null when about none. @throws {ApiError} 404; 400 when another model has it. */
async function checkSession<R extends ParsedRequest>(
  { engine, deps, context }: Exchange<R>,
  { generation: { sessionId: id } }: R,
): Promise<SessionInfo | null> {
  if (id === null) return null;
  const found = await deps.sessions.find({ owner: ownerOf(context), id });
  if (found === null) throw noSuchSession(id, 'session');
  if (found.model !== engine.modelId) throw readByAnother(id, { reader: found.model, asked: engine.modelId });
  return found.session;
}

async function answerWhole<R extends ParsedRequest>(exchange: Exchange<R>, request: R): Promise<void> {
  const { protocol, context, head, lifetime } = exchange;
  await checkSession(exchange, request);
  const answerOf = (choice: RunningChoice) =>
    withPrompt(exchange, request, choice, async (chat) => {
      const parts = { text: '', thinking: '' };
      const calls: AnswerCall[] = [];
      const tokens: ScoredToken[] = [];
      const textTokens: ScoredToken[] = [];
      const onEvent = (event: ChatEvent) => {
        if (event.type === 'toolCall') calls.push(event.call);
        if (event.type === 'text' || event.type === 'thinking') parts[event.type] += event.text;
        const { tokens: scored = [] } = 'tokens' in event ? event : {};
        tokens.push(...scored);
        if (event.type === 'text') textTokens.push(...scored);
      };
      const finish = await run(exchange, chat, { choice, onEvent });
      const { numPromptTokens } = chat;
      return protocol.whole(request, head, { ...parts, calls, tokens, textTokens, finish, numPromptTokens });
    });
  exchange.respond(context.json(joinBodies(await runChoices(request.numChoices ?? 1, lifetime.signal, answerOf))));
}

/**
 * The response begins when the request has begun to wait (for the model, a document, a slot or memory) or to run; what fails until then is an
 * error with its own status. Later failures are a last frame with the error. The frames of a normal end come only when nothing can fail any more.
 */
async function answerInFrames<R extends ParsedRequest>(exchange: Exchange<R>, request: R): Promise<void> {
  const { protocol, engine, deps, head, lifetime } = exchange;
  const stream = new EventStream({ keepAliveMs: deps.keepAliveMs, onCancel: () => lifetime.clientLeft() });
  const send = (frames: readonly Frame[]) => {
    for (const frame of frames) stream.send(frame);
  };
  let begun = false;
  const begin = () => {
    if (!begun) exchange.respond(stream.toResponse(exchange.context));
    begun = true;
  };
  const answerOf = (choice: RunningChoice) =>
    withPrompt(exchange, request, choice, async (chat) => {
      const streamed = protocol.stream(request, head, chat.numPromptTokens);
      const onEvent = (event: ChatEvent) => {
        begin();
        send(framesOf(event, streamed).map((frame) => frameOfChoice(frame, choice.index)));
      };
      return streamed.finished(await run(exchange, chat, { choice, onEvent, onQueued: begin }));
    });
  try {
    const session = await checkSession(exchange, request); // which waits for no model
    const { state = 'ready' } = engine;
    if (state !== 'ready' && state !== 'failed') begin();
    if (session !== null && session.state !== 'ready' && session.state !== 'failed') begin();
    send(joinEnds(await runChoices(request.numChoices ?? 1, lifetime.signal, answerOf)));
  } catch (error) {
    if (begun) send(protocol.stream(request, head, 0).failed(toApiError(lifetime.explain(error))));
    throw error;
  } finally {
    stream.end();
  }
}

/** The frames of one event of an answer that goes on. */
function framesOf(event: ChatEvent, streamed: StreamedAnswer): readonly Frame[] {
  if (event.type === 'opened') return streamed.opened();
  if (event.type === 'text') return streamed.text(event.text, event.tokens ?? [], event.readMap);
  if (event.type === 'thinking') return streamed.thinking?.(event.text, event.tokens ?? []) ?? [];
  if (event.type === 'toolCall') return streamed.toolCall?.(event.call, event.tokens ?? []) ?? [];
  return [];
}

interface RunOptions {
  readonly choice: RunningChoice;
  /** Must not wait. */
  readonly onEvent: (event: ChatEvent) => void;
  readonly onQueued?: () => void;
}

/** Runs the request in a slot of the queue. */
async function run<R extends ParsedRequest>(
  { deps, context, log, record }: Exchange<R>,
  chat: PreparedChat,
  { choice: { signal, promptRead }, onEvent, onQueued = () => {} }: RunOptions,
): Promise<ChatFinish> {
  const work = async (slot: Slot) => {
    log.info({ promptTokens: chat.numPromptTokens }, 'started');
    record.start();
    let finish: ChatFinish | null = null;
    let numCharged = 0;
    for await (const event of chat.run(signal)) {
      signal.throwIfAborted();
      if (event.type !== 'waiting' && event.type !== 'opened') promptRead();
      if (event.type === 'finish') finish = event.finish;
      else onEvent(event);
      if (event.type !== 'text') continue;
      record.text();
      slot.charge(1); // as it comes, so that who leaves before the end has paid
      numCharged += 1;
    }
    if (finish === null) throw new Error('the chat engine ended without a finish event');
    slot.charge(finish.numCompletionTokens - numCharged - finish.numCachedTokens);
    record.finish(chat.numPromptTokens, finish);
    return finish;
  };
  const turn = { caller: callerOf(context), tokens: chat.numPromptTokens, maxWaitMs: maxWaitOf(context), onQueued };
  return await deps.queue.run(signal, work, turn);
}
