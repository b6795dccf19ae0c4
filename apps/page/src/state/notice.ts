import { signal } from '@preact/signals';
import { explain, type Failure } from '../server/explain.js';
import { ServerError } from '../server/server-error.js';

/** What went wrong last outside of an answer; null = nothing, or the reader has seen it. */
export const notice = signal<Failure | null>(null);

/** Whether the server asks for an API key. */
export const keyIsAsked = signal(false);

/** Whether the error is for want of a key; then the reader is asked for one. */
export function asksForKey(error: unknown): boolean {
  const asks = error instanceof ServerError && error.status === 401;
  if (asks) keyIsAsked.value = true;
  return asks;
}

/** Tells the reader of a failure. */
export function report(error: unknown): void {
  if (!asksForKey(error)) notice.value = explain(error);
}
