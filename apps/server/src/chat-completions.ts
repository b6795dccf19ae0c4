/**
 * POST /v1/chat/completions: check, queue, run, answer whole or as a stream.
 *
 * One call of `serve` owns a request from its first byte to the end of the model's work, beyond the response's beginning. All that a
 * request takes is taken and given back inside it; it waits for the model and the queue, and never for the client.
 */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import type { Logger } from 'pino';
import { toApiError, toPrepareError } from './api-error.js';
import type { ChatEngine, ChatEvent, PreparedChat } from './chat-engine.js';
import { type ChatRequest, parseChatRequest } from './chat-request.js';
import { type ResponseHead, toChunk, toCompletion, toUsage, toUsageChunk } from './chat-response.js';
import { checkModel } from './check-model.js';
import { EventStream } from './event-stream.js';
import { readJson } from './read-json.js';
import { RequestLifetime } from './request-lifetime.js';
import type { RequestQueue } from './request-queue.js';

export interface ChatCompletionsDeps {
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

/** One request on its way to an answer. */
interface Exchange {
  readonly deps: ChatCompletionsDeps;
  readonly context: Context;
  readonly lifetime: RequestLifetime;
  readonly log: Logger;
  readonly head: ResponseHead;
  /** Sends the response, or the beginning of a stream; what fails later can no longer change its status. */
  readonly respond: (response: Response) => void;
}

export function chatCompletions(deps: ChatCompletionsDeps): (context: Context) => Promise<Response> {
  return (context) =>
    new Promise((respond, reject) => {
      const work = serve(context, deps, respond);
      work.catch(reject);
      deps.onWork(work);
    });
}

/** What fails after `respond` was called has been told in the stream. @throws {ApiError} */
async function serve(context: Context, deps: ChatCompletionsDeps, respond: Exchange['respond']): Promise<void> {
  const startedAt = performance.now();
  const lifetime = new RequestLifetime(context, deps.stopSignal);
  const head = {
    id: `chatcmpl-${randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: deps.engine.modelId,
  };
  const log = deps.logger.child({ request: head.id });
  let outcome: string | null = 'answered';
  try {
    await answer({ deps, context, lifetime, log, head, respond });
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

async function answer(exchange: Exchange): Promise<void> {
  const { context, deps, lifetime } = exchange;
  const request = parseChatRequest(await readJson(context, deps.maxBodyBytes));
  checkModel(request.model, deps.engine.modelId);
  await lifetime.turn();
  const chat = await deps.engine.prepare(request, lifetime.signal).catch((error: unknown) => {
    throw toPrepareError(lifetime.explain(error));
  });
  if (request.stream) await answerInChunks(exchange, request, chat);
  else await answerWhole(exchange, chat);
}

async function answerWhole(exchange: Exchange, chat: PreparedChat): Promise<void> {
  let text = '';
  let whole: Response | null = null;
  await run(exchange, chat, (event) => {
    if (event.type === 'text') text += event.text;
    if (event.type !== 'finish') return;
    const usage = toUsage(chat.numPromptTokens, event.finish);
    whole = exchange.context.json(toCompletion(exchange.head, { text, finish: event.finish, usage }));
  });
  if (whole === null) throw new Error('the chat engine ended without a finish event');
  exchange.respond(whole);
}

/**
 * The response begins when the request has begun to wait (for a place or for memory) or to run; what fails until then is an error with its own status. Later
 * failures are a last frame with the error, and no `[DONE]`.
 */
async function answerInChunks(exchange: Exchange, request: ChatRequest, chat: PreparedChat): Promise<void> {
  const { deps, head, lifetime } = exchange;
  const { includeUsage } = request;
  const stream = new EventStream({ keepAliveMs: deps.keepAliveMs, onCancel: () => lifetime.clientLeft() });
  let begun = false;
  const begin = () => {
    if (!begun) exchange.respond(toStreamResponse(exchange.context, stream));
    begun = true;
  };
  const send = (event: ChatEvent) => {
    begin();
    if (event.type === 'waiting') return;
    if (event.type === 'opened') {
      stream.send(toChunk(head, { delta: { role: 'assistant', content: '' }, includeUsage }));
    } else if (event.type === 'text') {
      stream.send(toChunk(head, { delta: { content: event.text }, includeUsage }));
    } else {
      stream.send(toChunk(head, { delta: {}, finish: event.finish, includeUsage }));
      if (includeUsage) stream.send(toUsageChunk(head, toUsage(chat.numPromptTokens, event.finish)));
    }
  };
  try {
    await run(exchange, chat, send, begin);
    stream.send('[DONE]');
  } catch (error) {
    if (begun) stream.send(toApiError(lifetime.explain(error)).toBody());
    throw error;
  } finally {
    stream.end();
  }
}

/** Runs the request in a place of the queue. `onEvent` must not wait. */
async function run(
  { deps, lifetime: { signal }, log }: Exchange,
  chat: PreparedChat,
  onEvent: (event: ChatEvent) => void,
  onQueued?: () => void,
): Promise<void> {
  const work = async () => {
    log.info({ promptTokens: chat.numPromptTokens }, 'started');
    for await (const event of chat.run(signal)) {
      signal.throwIfAborted();
      onEvent(event);
    }
  };
  await deps.queue.run(signal, work, onQueued);
}

function toStreamResponse(context: Context, stream: EventStream): Response {
  return context.body(stream.body as ReadableStream, 200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'x-accel-buffering': 'no', // nginx would hold tokens back otherwise
  });
}
