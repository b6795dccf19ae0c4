/** Errors that several files of this package throw, so that the same mistake gets the same code and the same sentence. */
import { CtkvrError } from '@ctkvr/core';

export function closedError(what: 'session' | 'model'): CtkvrError {
  return new CtkvrError(
    'CTKVR_CLOSED',
    `this ${what} is closed; ${what === 'model' ? 'load the model' : 'create a session'} again`,
    {
      fields: { what },
    },
  );
}

export function abortedError(operation: string, reason: unknown): CtkvrError {
  if (CtkvrError.isInstance(reason)) return reason;
  return new CtkvrError('CTKVR_ABORTED', `${operation} was cancelled`, { fields: { operation }, cause: reason });
}

export function busyError(operation: string, running: string): CtkvrError {
  return new CtkvrError(
    'CTKVR_BUSY',
    `${operation}: this session is still busy with ${running}; wait for it to end, cancel it, or fork() the session before it starts`,
    { fields: { operation, running } },
  );
}

/** @param numbers length: tokens in the session; added: tokens to add; maxNew: tokens that may be generated. */
export function contextExceededError(numbers: {
  readonly contextLength: number;
  readonly length: number;
  readonly added: number;
  readonly maxNew: number;
}): CtkvrError {
  const { contextLength, length, added, maxNew } = numbers;
  const parts = [`${length} in the session`];
  if (added > 0) parts.push(`${added} to add`);
  if (maxNew > 0) parts.push(`${maxNew} to generate`);
  return new CtkvrError(
    'CTKVR_CONTEXT_EXCEEDED',
    `${length + added + maxNew} tokens are needed (${parts.join(', ')}), the session's context holds ${contextLength}. Shorten the text, ask for fewer new tokens, or create the session with a longer context`,
    { fields: { contextLength, length, added, maxNew, needed: length + added + maxNew } },
  );
}
