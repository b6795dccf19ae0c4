/** What goes over the channel between a suite and a contender's process: one call, one answer, in order. */
import type { CtkvrErrorCode, CtkvrErrorFields } from '@ctkvr/core';
import type { ReferenceContender } from './contender.js';

export type ContenderMethod = keyof ReferenceContender;

export interface ContenderCall {
  readonly method: ContenderMethod;
  readonly args: readonly unknown[];
}

/** An error's class does not cross a channel: what it says, and its code where it is one of ours. */
export interface ContenderFailure {
  /** The message of an error that a user can fix, the stack of any other. */
  readonly message: string;
  readonly code: CtkvrErrorCode | null;
  readonly fields: CtkvrErrorFields;
  readonly remedy: string | null;
}

export type ContenderAnswer = { readonly value: unknown } | { readonly error: ContenderFailure };
