/** What goes over the channel between a suite and a contender's process: one call, one answer, in order. */
import type { ErrorData } from '@ctkvr/core';
import type { ReferenceContender } from './contender.js';

export type ContenderMethod = keyof ReferenceContender;

export interface ContenderCall {
  readonly method: ContenderMethod;
  readonly args: readonly unknown[];
}

export type ContenderAnswer = { readonly value: unknown } | { readonly error: ErrorData };
