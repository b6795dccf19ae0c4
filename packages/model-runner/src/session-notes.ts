/** What a saved session adds to the engine's sequence: notes that the engine keeps without reading them. */
import { CtkvrError } from '@ctkvr/core';
import type { SavedConversation } from './conversation.js';

/** Raised whenever a field changes its meaning. */
const version = 1;

export interface SessionNotes {
  /** All token ids: those that the engine has not stored yet, usually the last, are nowhere else. */
  readonly tokens: readonly number[];
  /** null when the session holds tokens that came from no message. */
  readonly conversation: SavedConversation | null;
  /** Of a session that holds a document before any question; null for others. */
  readonly document: SavedDocument | null;
}

/** What makes a document of a session. */
export interface SavedDocument {
  readonly text: string;
  /** SHA-256 of the chat template that the text was put into, in hexadecimal; null without one. */
  readonly templateHash: string | null;
}

export function writeNotes(notes: SessionNotes): string {
  return JSON.stringify({ version, ...notes });
}

/** @throws {CtkvrError} CTKVR_BAD_SNAPSHOT for what `writeNotes` of this version did not write. */
export function readNotes(path: string, text: string): SessionNotes {
  const notes = parsed(text);
  const { tokens, conversation, document = null } = notes ?? {}; // sessions were saved before documents were
  if (notes?.version === version && isTokens(tokens) && isConversation(conversation) && isDocument(document)) {
    return { tokens, conversation, document };
  }
  const fields = {
    path,
    field: 'notes',
    expected: `those of a session, version ${version}`,
    actual: text.slice(0, 80),
  };
  throw new CtkvrError(
    'CTKVR_BAD_SNAPSHOT',
    `${path}: not a saved session: its notes must be ${fields.expected}, got ${fields.actual || 'none'}`,
    { fields },
  );
}

function parsed(text: string): Partial<SessionNotes & { version: number }> | null {
  try {
    return JSON.parse(text) as Partial<SessionNotes & { version: number }> | null;
  } catch {
    return null;
  }
}

function isTokens(tokens: unknown): tokens is number[] {
  return Array.isArray(tokens) && tokens.every((id) => Number.isInteger(id) && id >= 0);
}

function isConversation(value: unknown): value is SavedConversation | null {
  if (value === null) return true;
  if (typeof value !== 'object') return false;
  const { messages, options, answer, storedAnswer } = value as Partial<SavedConversation>;
  const isMessage = (message: unknown) =>
    typeof message === 'object' && message !== null && 'role' in message && 'content' in message;
  const hasAnswer = (answer === null || typeof answer === 'string') && typeof storedAnswer === 'string';
  return (
    Array.isArray(messages) && messages.every(isMessage) && typeof options === 'object' && options !== null && hasAnswer
  );
}

function isDocument(value: unknown): value is SavedDocument | null {
  if (value === null) return true;
  if (typeof value !== 'object') return false;
  const { text, templateHash } = value as Partial<SavedDocument>;
  return typeof text === 'string' && (templateHash === null || typeof templateHash === 'string');
}
