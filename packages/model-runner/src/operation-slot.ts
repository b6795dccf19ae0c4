/** The place for the one operation that may run on a session at a time, and the session's end. */
import { Operation } from './operation.js';
import { busyError, closedError } from './operation-errors.js';

export class OperationSlot {
  #operation: Operation | null = null;
  #closing: Promise<void> | null = null;

  get isClosing(): boolean {
    return this.#closing !== null;
  }

  /** @throws {CtkvrError} CTKVR_CLOSED */
  checkOpen(): void {
    if (this.#closing !== null) throw closedError('session');
  }

  /** @throws {CtkvrError} CTKVR_CLOSED, CTKVR_BUSY */
  checkIdle(name: string): void {
    this.checkOpen();
    if (this.#operation !== null) throw busyError(name, this.#operation.name);
  }

  /** For what may happen between an operation's steps. @throws {CtkvrError} CTKVR_CLOSED, CTKVR_BUSY */
  checkBetweenSteps(name: string): void {
    this.checkOpen();
    if (this.#operation?.isInEngine) throw busyError(name, this.#operation.name);
  }

  /** Starts an operation, which `end` ends. @throws {CtkvrError} CTKVR_CLOSED, CTKVR_BUSY */
  begin(name: string, signal: AbortSignal | undefined): Operation {
    this.checkIdle(name);
    this.#operation = new Operation(name, signal);
    return this.#operation;
  }

  end(operation: Operation): void {
    operation.end();
    if (this.#operation === operation) this.#operation = null;
  }

  /** Runs `work` as an operation. @throws {CtkvrError} CTKVR_CLOSED, CTKVR_BUSY, CTKVR_ABORTED, and what `work` throws. */
  async run<T>(name: string, signal: AbortSignal | undefined, work: (operation: Operation) => Promise<T>): Promise<T> {
    const operation = this.begin(name, signal);
    try {
      operation.check();
      return await work(operation);
    } finally {
      this.end(operation);
    }
  }

  /** Ends what runs (it throws CTKVR_CLOSED), then calls `free`, once. Idempotent. */
  close(free: () => void): Promise<void> {
    this.#closing ??= this.#close(free);
    return this.#closing;
  }

  async #close(free: () => void): Promise<void> {
    const operation = this.#operation;
    operation?.abort(closedError('session'));
    await operation?.settled();
    free();
  }
}
