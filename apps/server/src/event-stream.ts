/**
 * Server-sent events without backpressure: events are buffered for the reader, and the sender never waits. So the work behind a stream takes
 * as long whether or not the client reads. At most one answer is buffered, a few hundred bytes a token. Events are written out in the next turn of
 * the event loop: by then the engine, which waits for those who ask for its next step, has begun it.
 */

import { ReadableStream, type ReadableStreamDefaultController } from 'node:stream/web';
import type { Context } from 'hono';

/**
 * Sent in a silence, so that neither client nor proxy takes it for a dead server. A comment by itself, without the blank line that
 * ends an event: some clients take any blank line for an event and fail on an empty one (openai-go 1.5).
 */
const KEEP_ALIVE = ': keep-alive\n';

export interface Frame {
  /** The event's name, where a protocol has them. */
  readonly event?: string;
  /** Sent as JSON; the word as it is. */
  readonly data: object | '[DONE]';
}

export interface EventStreamOptions {
  /** Milliseconds of silence after which a comment is sent. */
  readonly keepAliveMs: number;
  /** Called when the reader leaves before the end. */
  readonly onCancel: () => void;
}

export class EventStream {
  /** The body of a text/event-stream response. */
  readonly body: ReadableStream<Uint8Array>;
  readonly #encoder = new TextEncoder();
  readonly #silence: NodeJS.Timeout;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  /** To be written in the next turn. */
  #frames: Frame[] = [];
  #open = true;

  constructor({ keepAliveMs, onCancel }: EventStreamOptions) {
    this.body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.#close();
        onCancel();
      },
    });
    this.#silence = setInterval(() => this.#keepAlive(), keepAliveMs);
  }

  toResponse(context: Context): Response {
    return context.body(this.body as globalThis.ReadableStream, 200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no', // nginx would hold tokens back otherwise
    });
  }

  /** Sends one event. Without effect once the stream has ended. */
  send(frame: Frame): void {
    if (this.#open && this.#frames.push(frame) === 1) setImmediate(() => this.#flush());
  }

  /** Idempotent. */
  end(): void {
    if (!this.#open) return;
    this.#flush();
    this.#controller.close();
    this.#close();
  }

  #flush(): void {
    const frames = this.#frames;
    this.#frames = [];
    if (this.#open && frames.length > 0) this.#enqueue(frames.map(textOf).join(''));
  }

  #close(): void {
    this.#open = false;
    clearInterval(this.#silence);
  }

  /** To a reader who has taken everything: with others something is under way already. */
  #keepAlive(): void {
    if ((this.#controller.desiredSize ?? 0) > 0) this.#enqueue(KEEP_ALIVE);
  }

  #enqueue(text: string): void {
    this.#controller.enqueue(this.#encoder.encode(text));
    this.#silence.refresh();
  }
}

function textOf({ event, data }: Frame): string {
  const name = event === undefined ? '' : `event: ${event}\n`;
  return `${name}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;
}
