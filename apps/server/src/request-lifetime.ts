/**
 * How long a request may go on: until its client leaves or the server stops. Everything that works for a request gets `signal`, whose
 * reason is the ApiError that says which of the two it was.
 *
 * The client is watched on its socket. The response's own `close` event is not enough: node:http does not emit it for a pipelined
 * response that still waits for the one before it, so its work would go on, or wait, for ever.
 */
import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import { CtkvrError } from '@ctkvr/core';
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import { type ApiError, clientLeft, shuttingDown } from './api-error.js';

export class RequestLifetime {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  /** Ends listening to what outlives the request. */
  readonly #letGo: (() => void)[] = [];

  constructor(context: Context, stopSignal: AbortSignal) {
    this.signal = this.#controller.signal;
    const { incoming } = (context.env ?? {}) as Partial<HttpBindings>; // absent when the app is called without a socket
    if (incoming !== undefined) this.#endWith(leaving(incoming.socket), clientLeft);
    this.#endWith(context.req.raw.signal, clientLeft);
    this.#endWith(stopSignal, shuttingDown);
  }

  /** The client has left, as seen by whoever writes its answer. */
  clientLeft(): void {
    this.#controller.abort(clientLeft());
  }

  /** Returns what to tell of `error`: an operation that was cancelled failed for the reason it was cancelled for. */
  explain(error: unknown): unknown {
    return this.signal.aborted && isAbort(error) ? this.signal.reason : error;
  }

  /** To be called when the request has ended, however it did. */
  end(): void {
    for (const letGo of this.#letGo) letGo();
  }

  #endWith(source: AbortSignal, reason: () => ApiError): void {
    const abort = () => this.#controller.abort(reason());
    if (source.aborted) abort();
    source.addEventListener('abort', abort, { once: true });
    this.#letGo.push(() => source.removeEventListener('abort', abort));
  }
}

/** One signal a connection, however many requests it carries at once. */
const signals = new WeakMap<Socket, AbortSignal>();

/** Aborts when the client has closed the connection or its half of it, after which node:http sends it nothing more. */
function leaving(socket: Socket): AbortSignal {
  const known = signals.get(socket);
  if (known !== undefined) return known;
  const left = new AbortController();
  setMaxListeners(0, left.signal); // each pipelined request listens
  const leave = () => left.abort();
  if (socket.destroyed || socket.readableEnded) leave();
  socket.once('end', leave);
  socket.once('close', leave);
  signals.set(socket, left.signal);
  return left.signal;
}

function isAbort(error: unknown): boolean {
  return (
    (CtkvrError.isInstance(error) && error.code === 'CTKVR_ABORTED') ||
    (error instanceof Error && error.name === 'AbortError')
  );
}
