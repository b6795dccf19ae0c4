/** A document's session from the store; or read, and kept there for the next time. */
import { basename } from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import {
  documentKey,
  type Model,
  type QuarantinedSnapshot,
  type ReadDocument,
  type Session,
} from '@ctkvr/model-runner';
import type { CommandContext } from '../command-context.js';
import { note } from '../console-io.js';
import { forCommandLine } from '../error-text.js';
import { formatCounted, formatDuration } from '../format.js';
import { type ModelOptions, type SelectorFlags, selectorSettings } from '../parse-options.js';
import { type ProgressLine, prefillState } from '../progress-line.js';
import { type StoreFlags, sessionStore, storeLimitOf } from './session-store.js';

export type ReadingFlags = ModelOptions & SelectorFlags & StoreFlags;

/** What is read, and for whom. */
export interface Reading extends CommandContext {
  readonly model: Model;
  readonly files: readonly string[];
  readonly text: string;
  readonly progress: ProgressLine;
  /** Whether to say nothing of a restored document. */
  readonly quiet: boolean;
}

export interface ReadOnce {
  /** Holds the tokens before any question; the caller closes it. */
  readonly session: Session;
  /** Tokens that came from the store; 0 when the text was read. */
  readonly restoredTokens: number;
}

/** How sessions over documents are made: what they remember depends on it. */
export function readingOptions(model: Model, flags: ModelOptions & SelectorFlags) {
  return {
    kvFormat: flags.kvFormat,
    selector: { ...selectorSettings(flags), massSampling: true },
    contextLength: flags.context ?? model.contextLength,
  };
}

/**
 * What cannot be found or kept is said, and costs time only.
 * @throws {CtkvrError} what `model.readDocument` throws.
 */
export async function readOnce(flags: ReadingFlags, reading: Reading): Promise<ReadOnce> {
  const { model, files, text, progress, quiet, io, signal } = reading;
  const damaged: QuarantinedSnapshot[] = [];
  const onQuarantine = (found: QuarantinedSnapshot) => damaged.push(found);
  const store = flags.store ? sessionStore({ maxBytes: storeLimitOf(flags), onQuarantine }) : null;
  const options = readingOptions(model, flags);
  const key = documentKey({ model, text, ...options });

  const restored = (await store?.open(key, restore).catch(onUnusable)) ?? null;
  for (const { path, error } of damaged)
    await note(io, `${error.message}; it is now ${path}, and the text is read again`);
  if (restored !== null) {
    const { numTokens, prefillMs } = restored.reading;
    if (!quiet) await note(io, `restored ${formatCounted(numTokens, 'token')} in ${formatDuration(prefillMs)}`);
    return { session: restored.takeSession(), restoredTokens: numTokens };
  }
  const document = await read();
  await keep(document);
  return { session: document.takeSession(), restoredTokens: 0 };

  async function restore(path: string): Promise<ReadDocument> {
    progress.show({ label: 'restoring what was read before', fraction: null, detail: '' });
    try {
      return await model.openDocument(path, { signal });
    } finally {
      progress.clear();
    }
  }

  /** Of another model or version, or unreadable: as if there were none. */
  async function onUnusable(error: unknown): Promise<null> {
    if (!CtkvrError.isInstance(error) || !unusable.has(error.code)) throw error;
    await note(io, `${forCommandLine(error)}; the text is read again`);
    return null;
  }

  async function read(): Promise<ReadDocument> {
    try {
      return await model.readDocument(text, {
        ...options,
        signal,
        onProgress: (state) => progress.show(prefillState(state)),
      });
    } finally {
      progress.clear();
    }
  }

  async function keep(document: ReadDocument): Promise<void> {
    if (store === null) return;
    const about = { name: nameOf(files), modelName: modelNameOf(model), numTokens: document.numTokens };
    try {
      await store.save(key, about, (path) => document.save(path, { signal }));
    } catch (error) {
      if (!CtkvrError.isInstance(error) || !unkept.has(error.code)) {
        await document.close();
        throw error;
      }
      await note(io, `what was read is not kept for the next time: ${forCommandLine(error)}`);
    }
  }
}

const unusable: ReadonlySet<string> = new Set(['CTKVR_BAD_SNAPSHOT', 'CTKVR_FILE_UNREADABLE', 'CTKVR_OUTPUT_FAILED']);
const unkept: ReadonlySet<string> = new Set(['CTKVR_DISK_FULL', 'CTKVR_FILE_UNREADABLE', 'CTKVR_OUTPUT_FAILED']);

const MAX_NAME = 200;

/** What a store calls a text of these files. */
export function nameOf(files: readonly string[]): string {
  const names = files.map((file) => (file === '-' ? 'standard input' : basename(file)));
  return (
    names
      .join(', ')
      .replace(/\p{Cc}/gu, ' ')
      .slice(0, MAX_NAME)
      .trim() || 'a text'
  );
}

export function modelNameOf({ info }: Model): string {
  return info.name ?? info.architecture;
}
