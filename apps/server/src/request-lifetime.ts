/**
 * How long a request may go on: until its client leaves or the server stops. Everything that works for a request gets `signal`, whose
 * reason is the ApiError that says which of the two it was.
 *
 * The client is watched on its socket. The response's own `close` event is not enough: node:http does not emit it for a pipelined
 * response that still waits for the one before it, so its work would go on, or wait, for ever. The socket tells it only while node:http
 * reads from it, which it stops doing when answers pile up behind one that is not written yet: so a pipelined request waits for its turn.
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
  /** The answer before this one on its connection. */
  readonly #before: Promise<void> | undefined;
  /** Ends listening to what outlives the request. */
  readonly #letGo: (() => void)[] = [];

  constructor(context: Context, stopSignal: AbortSignal) {
    this.signal = this.#controller.signal;
    const { incoming, outgoing } = (context.env ?? {}) as Partial<HttpBindings>; // absent when the app is called without a socket
    if (incoming !== undefined) this.#endWith(leaving(incoming.socket), clientLeft);
    if (incoming !== undefined && outgoing !== undefined) {
      this.#before = written.get(incoming.socket);
      written.set(incoming.socket, new Promise((resolve) => outgoing.once('close', resolve)));
    }
    this.#endWith(context.req.raw.signal, clientLeft);
    this.#endWith(stopSignal, shuttingDown);
  }

  /** Resolves when the answers before this one on its connection are written, or the request is over. */
  async turn(): Promise<void> {
    if (this.#before === undefined || this.signal.aborted) return;
    let over = () => {};
    const ended = new Promise<void>((resolve) => {
      over = resolve;
    });
    this.signal.addEventListener('abort', over, { once: true });
    await Promise.race([this.#before, ended]);
    this.signal.removeEventListener('abort', over);
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

/** When the last answer that a connection was asked for is written. */
const written = new WeakMap<Socket, Promise<void>>();

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
