/**
 * The channel to a child process or to the parent. What is posted in one go travels as one message: the tokens of one engine step, of all
 * its sequences, cost one trip through the kernel. It travels in the next turn of the event loop, when the engine has begun its next step.
 */
import type { ChildProcess } from 'node:child_process';
import type { Channel } from './messages.js';

/** A process started with `serialization: 'advanced'`, or this one when it was. */
export type Peer = ChildProcess | NodeJS.Process;

interface Posted<Message> {
  readonly message: Message;
  readonly refused: (cause: unknown) => void;
}

export class ProcessChannel<Sent, Received> implements Channel<Sent, Received> {
  readonly #peer: Peer;
  #posted: Posted<Sent>[] = [];

  constructor(peer: Peer) {
    this.#peer = peer;
  }

  post(message: Sent, refused: (cause: unknown) => void): void {
    if (this.#posted.push({ message, refused }) === 1) setImmediate(() => this.#flush());
  }

  listen(listener: (message: Received) => void): void {
    const peer: NodeJS.EventEmitter = this.#peer;
    peer.on('message', (messages: Received[]) => {
      for (const message of messages) listener(message);
    });
  }

  #flush(): void {
    const posted = this.#posted;
    this.#posted = [];
    try {
      this.#send(posted.map(({ message }) => message));
    } catch {
      // One of them holds what cannot be copied. The others go without it.
      for (const { message, refused } of posted) {
        try {
          this.#send([message]);
        } catch (cause) {
          refused(cause);
        }
      }
    }
  }

  /** That the other side is gone shows in its events; what is sent to it then is lost. @throws {DOMException} DataCloneError. */
  #send(messages: Sent[]): void {
    if (this.#peer.connected) this.#peer.send?.(messages, undefined, undefined, () => {});
  }
}
