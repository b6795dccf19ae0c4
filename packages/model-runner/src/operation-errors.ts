/** Errors that several files of this package throw, so that the same mistake gets the same code and the same sentence. */
import { CtkvrError, countOf } from '@ctkvr/core';

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

/** What does not fit. */
export interface ContextNeed {
  readonly contextLength: number;
  /** What the model was trained for. */
  readonly trainedContext: number;
  /** Tokens in the session. */
  readonly length: number;
  /** Tokens to add. */
  readonly added: number;
  /** Tokens that may be generated. */
  readonly maxNew: number;
}

export function contextExceededError(need: ContextNeed): CtkvrError {
  const { contextLength, trainedContext, length, added, maxNew } = need;
  const needed = length + added + maxNew;
  const parts: string[] = [];
  if (length > 0) parts.push(`${length} in the session`);
  if (added > 0) parts.push(`${added} to add`);
  if (maxNew > 0) parts.push(`${maxNew} to generate`);
  const listed = parts.length > 1 ? ` (${parts.join(', ')})` : '';
  const remedies = ['shorten the text'];
  if (maxNew > 0) remedies.push('ask for fewer new tokens');
  remedies.push(
    contextLength < trainedContext
      ? `give model and session a longer context, up to ${trainedContext}`
      : 'take a model with a longer context: this one was trained for no more',
  );
  return new CtkvrError(
    'CTKVR_CONTEXT_EXCEEDED',
    `${countOf(needed, 'token')} ${needed === 1 ? 'is' : 'are'} needed${listed}, the session's context holds ${contextLength}`,
    {
      fields: { contextLength, trainedContext, length, added, maxNew, needed },
      remedy: `${remedies.slice(0, -1).join(', ')}, or ${remedies.at(-1)}`,
    },
  );
}

/** @param of saved: the context of the session in the file; contextLength: what the model was loaded for. */
export function savedContextError(of: {
  readonly path: string;
  readonly saved: number;
  readonly contextLength: number;
}): CtkvrError {
  const { path, saved, contextLength } = of;
  return new CtkvrError(
    'CTKVR_CONTEXT_EXCEEDED',
    `${path}: the saved session has a context of ${countOf(saved, 'token')}, the model was loaded for ${contextLength}`,
    { fields: { path, needed: saved, contextLength }, remedy: `load the model with contextLength ${saved}` },
  );
}
