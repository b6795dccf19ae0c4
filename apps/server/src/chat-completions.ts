/** POST /v1/chat/completions: check, queue, run, answer whole or as a stream. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import type { Logger } from 'pino';
import { ApiError, toApiError } from './api-error.js';
import type { ChatEngine, ChatEvent, PreparedChat } from './chat-engine.js';
import { type ChatRequest, parseChatRequest } from './chat-request.js';
import { type ResponseHead, toChunk, toCompletion, toUsage, toUsageChunk } from './chat-response.js';
import { type EventData, eventStream } from './event-stream.js';
import type { RequestQueue } from './request-queue.js';

export interface ChatCompletionsDeps {
  readonly engine: ChatEngine;
  readonly queue: RequestQueue;
  readonly logger: Logger;
  /** Aborts when running requests must end. */
  readonly stopSignal: AbortSignal;
  readonly keepAliveMs: number;
}

/** One accepted request on its way to an answer. */
interface Exchange {
  readonly request: ChatRequest;
  readonly chat: PreparedChat;
  readonly head: ResponseHead;
  /** Cancels this request; the client's own disconnect and the server's stop do so too. */
  readonly abort: AbortController;
}

export function chatCompletions(deps: ChatCompletionsDeps): (context: Context) => Promise<Response> {
  return async (context) => {
    const exchange = await accept(context, deps);
    const log = deps.logger.child({ request: exchange.head.id });
    const startedAt = performance.now();
    const events = inQueue(exchange, deps.queue);
    try {
      await events.next(); // `opened`: from here on only the model can fail
      log.info({ promptTokens: exchange.chat.numPromptTokens, stream: exchange.request.stream }, 'started');
      if (!exchange.request.stream) return context.json(await collect(events, exchange));
    } catch (error) {
      await events.return();
      throw error;
    } finally {
      if (!exchange.request.stream) log.info({ ms: Math.round(performance.now() - startedAt) }, 'ended');
    }
    const frames = toFrames(events, exchange, { log, startedAt });
    const body = eventStream(frames, { keepAliveMs: deps.keepAliveMs, onCancel: () => exchange.abort.abort() });
    return context.body(body, 200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no', // nginx would hold tokens back otherwise
    });
  };
}

async function accept(context: Context, deps: ChatCompletionsDeps): Promise<Exchange> {
  const request = parseChatRequest(await readJson(context));
  if (request.model !== deps.engine.modelId) throw unknownModel(request.model, deps.engine.modelId);
  const chat = await deps.engine.prepare(request);
  const abort = new AbortController();
  for (const signal of [context.req.raw.signal, deps.stopSignal]) forwardAbort(signal, abort);
  const head = {
    id: `chatcmpl-${randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: deps.engine.modelId,
  };
  return { request, chat, head, abort };
}

/** Aborts `to` when `from` aborts; listens no longer than `to` lives. */
function forwardAbort(from: AbortSignal, to: AbortController): void {
  const forward = () => to.abort();
  if (from.aborted) forward();
  from.addEventListener('abort', forward);
  to.signal.addEventListener('abort', () => from.removeEventListener('abort', forward));
}

/** The request's events, holding a place in the queue for as long as they run. */
async function* inQueue({ chat, abort }: Exchange, queue: RequestQueue): AsyncGenerator<ChatEvent, void, undefined> {
  const leave = await queue.enter(abort.signal);
  try {
    yield* chat.run(abort.signal);
  } finally {
    leave();
    abort.abort(); // lets go of the listeners on the server's signal
  }
}

async function collect(events: AsyncIterable<ChatEvent>, { head, chat }: Exchange) {
  let text = '';
  for await (const event of events) {
    if (event.type === 'text') text += event.text;
    if (event.type === 'finish') {
      return toCompletion(head, { text, finish: event.finish, usage: toUsage(chat.numPromptTokens, event.finish) });
    }
  }
  throw new Error('the chat engine ended without a finish event');
}

/** Never throws: a failure in mid-stream becomes an error frame, after which the stream ends without `[DONE]`. */
async function* toFrames(
  events: AsyncGenerator<ChatEvent, void, undefined>,
  { head, chat, request: { includeUsage } }: Exchange,
  { log, startedAt }: { log: Logger; startedAt: number },
): AsyncGenerator<EventData, void, undefined> {
  try {
    yield JSON.stringify(toChunk(head, { delta: { role: 'assistant', content: '' }, includeUsage }));
    for await (const event of events) {
      if (event.type === 'text') {
        yield JSON.stringify(toChunk(head, { delta: { content: event.text }, includeUsage }));
      }
      if (event.type === 'finish') {
        yield JSON.stringify(toChunk(head, { delta: {}, finish: event.finish, includeUsage }));
        if (includeUsage) yield JSON.stringify(toUsageChunk(head, toUsage(chat.numPromptTokens, event.finish)));
      }
    }
    yield '[DONE]';
  } catch (error) {
    const failure = toApiError(error);
    if (failure.status >= 500) log.error({ err: failure.cause ?? failure }, 'failed in mid-stream');
    yield JSON.stringify(failure.toBody());
  } finally {
    await events.return(); // also when the reader left before the loop began
    log.info({ ms: Math.round(performance.now() - startedAt) }, 'ended');
  }
}

async function readJson(context: Context): Promise<unknown> {
  const contentType = context.req.header('content-type') ?? '';
  if (!/^application\/json\b/i.test(contentType)) {
    throw new ApiError(415, `The body must be sent as application/json, got '${contentType || 'no content-type'}'`, {
      code: 'unsupported_media_type',
    });
  }
  try {
    return await context.req.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ApiError(400, `The body is not valid JSON: ${error.message}`, { code: 'invalid_json', cause: error });
  }
}

export function unknownModel(asked: string, served: string): ApiError {
  return new ApiError(404, `The model '${asked}' does not exist here; this server runs '${served}'`, {
    param: 'model',
    code: 'model_not_found',
  });
}
