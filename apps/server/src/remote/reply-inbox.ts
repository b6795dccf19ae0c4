/** The replies to one call, in order, for one reader. */
import type { ReplyMessage } from './messages.js';
import { fromRemoteError } from './remote-error.js';

type Reply = Exclude<ReplyMessage, { type: 'error' }>;

export class ReplyInbox {
  readonly #replies: Reply[] = [];
  #failure: Error | null = null;
  #ended = false;
  #wake: (() => void) | null = null;

  /** Whether nothing comes any more; what came may be unread. */
  get ended(): boolean {
    return this.#ended;
  }

  push(reply: ReplyMessage): void {
    if (reply.type === 'error') {
      this.fail(fromRemoteError(reply.error));
      return;
    }
    this.#replies.push(reply);
    if (reply.type === 'result') this.#ended = true;
    this.#wake?.();
  }

  /** What was pushed before can still be read. Without effect after the end. */
  fail(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = error;
    this.#wake?.();
  }

  /** @throws the failure, once everything before it was read. */
  async next(): Promise<Reply> {
    for (;;) {
      const reply = this.#replies.shift();
      if (reply !== undefined) return reply;
      if (this.#failure !== null) throw this.#failure;
      await this.#change();
    }
  }

  /** Resolves when nothing comes any more. What it was is nobody's business: the reader has left. */
  async drain(): Promise<void> {
    while (!this.#ended) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
