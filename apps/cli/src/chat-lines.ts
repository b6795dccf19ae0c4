/** The lines a user types in `chat`, and Ctrl-C there: at the prompt it leaves; during an answer the first stops the answer, the second leaves. */
import { createInterface, type Interface } from 'node:readline';
import type { ConsoleIo } from './console-io.js';
import { exitCodes } from './exit-codes.js';
import { Interrupted } from './interrupt.js';

export class ChatLines implements Disposable {
  /** Whether a person sits there; otherwise the lines come from a pipe. */
  readonly interactive: boolean;
  readonly #readline: Interface;
  readonly #queue: string[] = [];
  #ended = false;
  #interrupted = false;
  #wake: (() => void) | null = null;
  #answer: AbortController | null = null;

  constructor(io: ConsoleIo, signal: AbortSignal) {
    this.interactive = io.stdin.isTTY === true && io.stderr.isTTY === true;
    this.#readline = createInterface({ input: io.stdin, output: io.stderr, terminal: this.interactive, prompt: '> ' });
    this.#readline.on('line', (line) => {
      this.#queue.push(line.trim());
      this.#wake?.();
    });
    this.#readline.on('close', () => {
      this.#ended = true;
      this.#wake?.();
    });
    this.#readline.on('SIGINT', () => this.#onInterrupt());
    const leave = () => {
      this.#answer?.abort();
      this.#interrupted = true;
      this.#wake?.();
    };
    if (signal.aborted) leave();
    else signal.addEventListener('abort', leave, { once: true });
  }

  /** Returns the next line without surrounding space, or null at the end of input. @throws {Interrupted} on Ctrl-C. */
  async next(): Promise<string | null> {
    if (this.interactive) this.#readline.prompt();
    for (;;) {
      if (this.#interrupted) throw new Interrupted();
      const line = this.#queue.shift();
      if (line !== undefined) return line;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }

  /** Until disposed, Ctrl-C fires the returned signal. */
  beginAnswer(): Disposable & { readonly signal: AbortSignal } {
    const controller = new AbortController();
    if (this.#interrupted) controller.abort();
    this.#answer = controller;
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        this.#answer = null;
      },
    };
  }

  /** Gives the terminal back. */
  [Symbol.dispose](): void {
    this.#readline.close();
  }

  #onInterrupt(): void {
    if (this.#answer === null) {
      this.#interrupted = true;
      this.#wake?.();
    } else if (!this.#answer.signal.aborted) {
      this.#answer.abort();
    } else {
      this.#readline.close();
      process.exit(exitCodes.interrupted);
    }
  }
}
