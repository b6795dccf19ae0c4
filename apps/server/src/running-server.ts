/** A listening server over any engine, and its end: requests drain, those that take too long are cancelled. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CtkvrError, checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import { serve } from '@hono/node-server';
import { type Logger, pino } from 'pino';
import { type CallerOptions, isLoopback } from './allowed-callers.js';
import { createApp } from './app.js';
import type { ChatEngine } from './chat-engine.js';
import { ConnectionTracker } from './connection-tracker.js';
import { defaultQueueOptions, RequestQueue } from './request-queue.js';

export interface ListenOptions extends CallerOptions {
  /** Default 127.0.0.1: this machine only. Anything else is open to whoever reaches it; there is no authentication yet. */
  readonly host?: string;
  /** Default 8080; 0 = any free one. */
  readonly port?: number;
  /** Requests that run at once. Default 4. */
  readonly maxRunning?: number | undefined;
  /** Requests that may wait beyond those; one more is answered 429. Default 128. */
  readonly maxQueued?: number | undefined;
  /** Milliseconds that a request may wait before it is answered 429. Default 300,000. */
  readonly maxWaitMs?: number | undefined;
  /** Milliseconds that running requests get to end once the server stops. Default 10,000. */
  readonly shutdownGraceMs?: number;
  /** Stop on SIGINT and SIGTERM; the second one does not wait. Default true. */
  readonly handleSignals?: boolean;
  /** Default: one line of JSON an event on stderr; never holds prompts or answers. */
  readonly logger?: Logger;
}

const count = (min: number) => takes.optional(takes.integer(min, 0x7fff_ffff));

export const listenChecks: OptionChecks<ListenOptions> = {
  host: takes.optional(takes.text),
  port: takes.optional(takes.integer(0, 65_535)),
  maxRunning: count(1),
  maxQueued: count(0),
  maxWaitMs: count(1),
  allowedOrigins: takes.optional(takes.list),
  allowedHosts: takes.optional(takes.list),
  shutdownGraceMs: count(0),
  handleSignals: takes.optional(takes.boolean),
  logger: takes.optional(takes.object),
};

export type StopSignal = 'SIGINT' | 'SIGTERM';

const stopSignals: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];

/** Milliseconds a cancelled request has to write its last frame before its connection is cut. */
const LAST_FRAME_MS = 1000;

export class RunningServer {
  /** `http://host:port`, with the port really taken. */
  readonly url: string;
  readonly port: number;
  /** The name clients send as `model`. */
  readonly modelName: string;
  /** Resolves once the server has stopped: with the signal that stopped it, or null after close(). */
  readonly closed: Promise<StopSignal | null>;
  readonly #server: Server;
  readonly #parts: ServerParts;
  readonly #connections: ConnectionTracker;
  readonly #onSignal = (signal: StopSignal) => this.#stopOnSignal(signal);
  #settleClosed!: { resolve: (signal: StopSignal | null) => void; reject: (error: unknown) => void };
  #closing: Promise<void> | null = null;
  #stoppedBy: StopSignal | null = null;

  /** @internal made by `listen` */
  constructor(server: Server, parts: ServerParts) {
    const { host = '127.0.0.1', handleSignals = true } = parts.options;
    this.#server = server;
    this.#connections = new ConnectionTracker(server);
    this.#parts = parts;
    this.port = (server.address() as AddressInfo).port;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
    this.modelName = parts.modelName;
    this.closed = new Promise((resolve, reject) => {
      this.#settleClosed = { resolve, reject };
    });
    this.closed.catch(() => {}); // who called close() sees the error there
    if (handleSignals) for (const signal of stopSignals) process.on(signal, this.#onSignal);
    parts.logger.info({ url: this.url, model: this.modelName }, 'listening');
  }

  /** Refuses new requests, gives running ones `shutdownGraceMs`, cancels the rest, frees what the server owns. Idempotent. */
  close(): Promise<void> {
    if (this.#closing === null) {
      this.#closing = this.#close();
      this.#closing.then(
        () => this.#settleClosed.resolve(this.#stoppedBy),
        (error: unknown) => this.#settleClosed.reject(error),
      );
    }
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const { queue, work, stop, logger, options, release } = this.#parts;
    logger.info({ running: queue.numRunning, queued: queue.numQueued }, 'stopping');
    queue.close();
    const grace = setTimeout(() => stop.abort(), options.shutdownGraceMs ?? 10_000);
    try {
      await drain(this.#server, this.#connections, stop.signal);
    } finally {
      clearTimeout(grace);
      stop.abort();
      await Promise.allSettled(work); // a connection may go before what was done for it has ended
      await release();
      for (const signal of stopSignals) process.off(signal, this.#onSignal);
    }
    logger.info('stopped');
  }

  #stopOnSignal(signal: StopSignal): void {
    if (this.#closing !== null) {
      this.#parts.stop.abort();
      return;
    }
    this.#stoppedBy = signal;
    this.close().catch((error: unknown) => this.#parts.logger.fatal({ err: error }, 'could not stop cleanly'));
  }
}

interface ServerParts {
  readonly queue: RequestQueue;
  /** What is done for requests right now. */
  readonly work: ReadonlySet<Promise<void>>;
  readonly stop: AbortController;
  readonly logger: Logger;
  readonly modelName: string;
  readonly options: ListenOptions;
  /** Frees what the server owns, once nothing runs any more. */
  readonly release: () => Promise<void>;
}

/**
 * Resolves when the server listens. `release` runs at its end, and also when it cannot begin.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION when the address cannot be bound, or an option is out of range.
 */
export async function listen(
  engine: ChatEngine,
  options: ListenOptions = {},
  release: () => Promise<void> = async () => {},
): Promise<RunningServer> {
  const { host = '127.0.0.1', port = 8080 } = options;
  const logger = options.logger ?? defaultLogger();
  const stop = new AbortController();
  const work = new Set<Promise<void>>();
  const onWork = (one: Promise<void>) => {
    work.add(one);
    const done = () => work.delete(one);
    one.then(done, done);
  };
  const { allowedOrigins, allowedHosts } = options;
  const callers = { localOnly: isLoopback(host), allowedOrigins, allowedHosts };
  try {
    checkOptions('listen', options, listenChecks);
    const queue = new RequestQueue({
      maxRunning: options.maxRunning ?? defaultQueueOptions.maxRunning,
      maxQueued: options.maxQueued ?? defaultQueueOptions.maxQueued,
      maxWaitMs: options.maxWaitMs ?? defaultQueueOptions.maxWaitMs,
    });
    const app = createApp({ engine, queue, logger, stopSignal: stop.signal, onWork, ...callers });
    const server = await bind(app.fetch, { host, port });
    return new RunningServer(server, { queue, work, stop, logger, modelName: engine.modelId, options, release });
  } catch (error) {
    await release();
    throw error;
  }
}

/** One line of JSON an event on stderr. */
export function defaultLogger(): Logger {
  return pino({ level: 'info' }, pino.destination({ dest: 2, sync: true }));
}

/** Stops listening and resolves when every connection has ended: idle ones at once, busy ones after their answer. */
async function drain(server: Server, connections: ConnectionTracker, stopped: AbortSignal): Promise<void> {
  const cutOff = () => setTimeout(() => server.closeAllConnections(), LAST_FRAME_MS).unref();
  stopped.addEventListener('abort', cutOff, { once: true });
  const ended = new Promise<void>((resolve) => server.close(() => resolve()));
  connections.drain();
  await ended;
  stopped.removeEventListener('abort', cutOff);
}

function bind(fetch: Parameters<typeof serve>[0]['fetch'], address: { host: string; port: number }): Promise<Server> {
  const { host, port } = address;
  return new Promise((resolve, reject) => {
    // Without other options @hono/node-server makes a plain node:http server.
    const server = serve({ fetch, hostname: host, port }, () => resolve(server)) as Server;
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'another program listens there; choose another port' : error.message;
      reject(
        new CtkvrError('CTKVR_INVALID_OPTION', `Cannot listen on ${host}:${port}: ${why}`, {
          fields: { option: 'port', host, port },
          cause: error,
        }),
      );
    });
  });
}
