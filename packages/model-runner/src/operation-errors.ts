/** Errors that several files of this package throw, so that the same mistake gets the same code and the same sentence. */
import { CtkvrError } from '@ctkvr/core';

/** What there is to do about each thing that is used after its end. */
const afterClose = { session: 'create a session again', model: 'load the model again', document: 'read it again' };

export function closedError(what: keyof typeof afterClose): CtkvrError {
  return new CtkvrError('CTKVR_CLOSED', `this ${what} is closed`, { fields: { what }, remedy: afterClose[what] });
}

export function abortedError(operation: string, reason: unknown): CtkvrError {
  if (CtkvrError.isInstance(reason)) return reason;
  return new CtkvrError('CTKVR_ABORTED', `${operation} was cancelled`, { fields: { operation }, cause: reason });
}

export function busyError(operation: string, running: string): CtkvrError {
  return new CtkvrError('CTKVR_BUSY', `${operation}: this session is still busy with ${running}`, {
    fields: { operation, running },
    remedy: 'wait for it to end, cancel it, or fork() the session before it starts',
  });
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
    `${length + added + maxNew} tokens are needed (${parts.join(', ')}), the session's context holds ${contextLength}`,
    {
      fields: { contextLength, length, added, maxNew, needed: length + added + maxNew },
      remedy: 'shorten the text, ask for fewer new tokens, or create the session with a longer context',
    },
  );
}
