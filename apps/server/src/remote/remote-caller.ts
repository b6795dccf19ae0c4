/** The end of a connection that calls: methods of services in the other process, as promises and async generators. */
import { CtkvrError } from '@ctkvr/core';
import { type CallMessage, type Channel, type ReplyMessage, type SignalPlace, STREAM_WINDOW } from './messages.js';
import { toRemoteError } from './remote-error.js';
import { ReplyInbox } from './reply-inbox.js';

/** How many items are read before more are asked for. */
const REFILL = STREAM_WINDOW / 2;

export interface RemoteMethod {
  readonly service: string;
  readonly method: string;
}

export class RemoteCaller {
  readonly #channel: Channel<CallMessage, ReplyMessage>;
  readonly #inboxes = new Map<number, ReplyInbox>();
  #lastId = 0;
  #ended: Error | null = null;

  constructor(channel: Channel<CallMessage, ReplyMessage>) {
    this.#channel = channel;
    channel.listen((reply) => this.#inboxes.get(reply.id)?.push(reply));
  }

  /**
   * Calls a method that returns a promise. An AbortSignal among the arguments, or in a property of one, aborts one over there; the call
   * settles when the work there has ended.
   * @throws what the method throws; CTKVR_INVALID_OPTION when an argument cannot be copied; the error of `end`.
   */
  async call(target: RemoteMethod, args: readonly unknown[]): Promise<unknown> {
    const { inbox, close } = this.#begin('call', target, args);
    try {
      return (await inbox.next()).value;
    } finally {
      close();
    }
  }

  /** The same for a method that is an async generator. Nothing is called before the first item is asked for. */
  async *stream(target: RemoteMethod, args: readonly unknown[]): AsyncGenerator<unknown, void, undefined> {
    const { id, inbox, close } = this.#begin('stream', target, args);
    try {
      for (let numRead = 1; ; numRead += 1) {
        const { type, value } = await inbox.next();
        if (type === 'result') return;
        if (numRead % REFILL === 0) this.#post({ type: 'more', id, count: REFILL });
        yield value;
      }
    } finally {
      if (!inbox.ended) {
        this.#post({ type: 'stop', id });
        await inbox.drain();
      }
      close();
    }
  }

  /** The other process is gone: what is under way, and what is called from now on, fails with `error`. */
  end(error: Error): void {
    this.#ended = error;
    for (const inbox of this.#inboxes.values()) inbox.fail(error);
  }

  #begin(type: 'call' | 'stream', { service, method }: RemoteMethod, args: readonly unknown[]) {
    if (this.#ended !== null) throw this.#ended;
    this.#lastId += 1;
    const id = this.#lastId;
    const inbox = new ReplyInbox();
    this.#inboxes.set(id, inbox);
    const { sent, signal, place } = takeSignal(args);
    const abort = () => this.#post({ type: 'abort', id, reason: toRemoteError(signal?.reason) });
    this.#post({ type, id, service, method, args: sent, signal: place }, (cause) =>
      inbox.fail(notCopied(method, cause)),
    );
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    const close = () => {
      signal?.removeEventListener('abort', abort);
      this.#inboxes.delete(id);
    };
    return { id, inbox, close };
  }

  #post(message: CallMessage, refused: (cause: unknown) => void = () => {}): void {
    this.#channel.post(message, refused);
  }
}

/** The arguments without the signal that is among them, or in a property of one. */
function takeSignal(args: readonly unknown[]): {
  readonly sent: readonly unknown[];
  readonly signal: AbortSignal | null;
  readonly place: SignalPlace | null;
} {
  for (const [argument, value] of args.entries()) {
    if (value instanceof AbortSignal) {
      return { sent: args.with(argument, undefined), signal: value, place: { argument, property: null } };
    }
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Array.isArray(value)) continue;
    for (const [property, inside] of Object.entries(value)) {
      if (!(inside instanceof AbortSignal)) continue;
      const without = { ...value, [property]: undefined };
      return { sent: args.with(argument, without), signal: inside, place: { argument, property } };
    }
  }
  return { sent: args, signal: null, place: null };
}

function notCopied(method: string, cause: unknown): CtkvrError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CtkvrError('CTKVR_INVALID_OPTION', `${method} takes plain data only, as JSON has it: ${reason}`, {
    fields: { op: method, reason },
    cause,
  });
}
