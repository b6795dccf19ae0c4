/** What tells one document, read in one way, from all others. */
import { createHash } from 'node:crypto';
import { checkOptions, type KvFormat, kvFormats, type OptionChecks, resolveKvFormat, takes } from '@ctkvr/core';
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

const readingChecks: OptionChecks<DocumentReading> = {
  model: takes.object,
  text: takes.text,
  contextLength: takes.optional(takes.integer(1, 0x7fff_ffff)),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.optional(takes.object),
};

/** Raised when documents are read in another way than before. */
const version = 1;

/**
 * Returns the key of a document in a store, 64 hexadecimal digits: the same for the same text, model, template and settings, on every machine. A
 * model of the same name and sizes with other weights is told apart when the snapshot is opened.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION for settings that are none.
 */
export function documentKey(reading: DocumentReading): string {
  checkOptions('documentKey', reading, readingChecks);
  const { model, text, contextLength, kvFormat, selector } = reading;
  const { path: _, ...info } = model.info;
  // Sorted: a selector that was restored has its fields in another order.
  const selection = Object.entries(selectorFor(model.info, selector)).sort();
  const settings = [contextLength ?? null, resolveKvFormat(kvFormat), selection];
  const how = JSON.stringify([version, info, model.chatTemplate, settings]);
  return createHash('sha256').update(how).update('\0').update(text).digest('hex');
}
