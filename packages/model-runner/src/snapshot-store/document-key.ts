/** What tells one document, read in one way, from all others. */
import { createHash } from 'node:crypto';
import { type KvFormat, resolveKvFormat } from '@ctkvr/core';
import type { Model } from '../model.js';
import { selectorFor } from '../selector-for.js';
import type { SelectorChoice } from '../session-types.js';

/** A text, and how it is read: as `model.readDocument` takes it. */
export interface DocumentReading {
  readonly model: Pick<Model, 'info' | 'chatTemplate'>;
  readonly text: string;
  readonly contextLength?: number | undefined;
  readonly kvFormat?: KvFormat | undefined;
  readonly selector?: SelectorChoice | undefined;
}

/** Raised when documents are read in another way than before. */
const version = 1;

/**
 * Returns the key of a document in a store, 64 hexadecimal digits: the same for the same text, model, template and settings, on every machine. A
 * model of the same name and sizes with other weights is told apart when the snapshot is opened.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION for settings that are none.
 */
export function documentKey({ model, text, contextLength, kvFormat, selector }: DocumentReading): string {
  const { path: _, ...info } = model.info;
  // Sorted: a selector that was restored has its fields in another order.
  const selection = Object.entries(selectorFor(model.info, selector)).sort();
  const settings = [contextLength ?? null, resolveKvFormat(kvFormat), selection];
  const reading = JSON.stringify([version, info, model.chatTemplate, settings]);
  return createHash('sha256').update(reading).update('\0').update(text).digest('hex');
}
