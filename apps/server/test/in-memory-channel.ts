/** Two ends of a connection in one process. Messages are copied as between processes, and wait until the test delivers them. */
import type { CallMessage, Channel, ReplyMessage } from '../src/remote/messages.js';

class End<Sent, Received> implements Channel<Sent, Received> {
  /** Posted and not delivered. */
  readonly posted: Sent[] = [];
  onMessage: (message: Received) => void = () => {};

  post(message: Sent, refused: (cause: unknown) => void): void {
    try {
      this.posted.push(structuredClone(message));
    } catch (cause) {
      queueMicrotask(() => refused(cause));
    }
  }

  listen(listener: (message: Received) => void): void {
    this.onMessage = listener;
  }
}

export class InMemoryConnection {
  readonly caller = new End<CallMessage, ReplyMessage>();
  readonly server = new End<ReplyMessage, CallMessage>();
  #timer: NodeJS.Timeout | undefined;

  /** Delivers one message in one direction; false when there is none. */
  deliver(to: 'caller' | 'server'): boolean {
    if (to === 'server') {
      const message = this.caller.posted.shift();
      if (message !== undefined) this.server.onMessage(message);
      return message !== undefined;
    }
    const message = this.server.posted.shift();
    if (message !== undefined) this.caller.onMessage(message);
    return message !== undefined;
  }

  /** From here on everything is delivered soon. */
  deliverAll(): this {
    this.#timer = setInterval(() => {
      while (this.deliver('server') || this.deliver('caller'));
    }, 0);
    return this;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
