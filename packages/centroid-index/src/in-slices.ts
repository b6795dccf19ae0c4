/** Long work on the JavaScript thread, paused where it yields so that the event loop runs. */
import { CtkvrError } from '@ctkvr/core';

/** Longest that a slice holds the event loop, ms. */
const sliceMs = 20;

/** Returns what `work` returns. @throws {CtkvrError} CTKVR_ABORTED between two slices when the signal says so. */
export async function inSlices<T>(work: Generator<void, T>, op: string, signal: AbortSignal | undefined): Promise<T> {
  throwIfAborted(op, signal);
  for (let sliceEnd = performance.now() + sliceMs; ; ) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (performance.now() < sliceEnd) continue;
    await new Promise((resolve) => setImmediate(resolve));
    throwIfAborted(op, signal);
    sliceEnd = performance.now() + sliceMs;
  }
}

/** @throws {CtkvrError} CTKVR_ABORTED when the signal says so. */
export function throwIfAborted(op: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new CtkvrError('CTKVR_ABORTED', `${op} was aborted; nothing has changed`, { cause: signal.reason });
}
