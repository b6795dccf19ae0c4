/** A session as clients see it, and the names that it may have. */
import { mustBe } from '../invalid-value.js';
import type { ServedSession } from './served-sessions.js';

const MAX_NAME_LENGTH = 200;
const DEFAULT_NAME = 'document';

export function toSessionJson({ model, session }: ServedSession) {
  const { id, name, state, tokensDone, tokensTotal, created, error } = session;
  return {
    id,
    object: 'session',
    model,
    name,
    state,
    tokens_done: tokensDone,
    tokens_total: tokensTotal,
    created,
    ...(error === null ? {} : { error }),
  };
}

/** Names are shown, never used as paths. @throws {ApiError} 400 for one that cannot be shown on a line. */
export function checkName(name: string): string {
  if (name.trim() !== '' && name.length <= MAX_NAME_LENGTH && !controls.test(name)) return name;
  throw mustBe('name', `a text of 1 to ${MAX_NAME_LENGTH} characters without control characters`, name);
}

/** The name of a session whose document was sent under a file's name: what of that can be shown. */
export function nameOfFile(fileName: string | undefined): string {
  const shown = (fileName ?? '').replace(allControls, '').split(/[/\\]/).at(-1)!;
  return shown.trim().slice(0, MAX_NAME_LENGTH) || DEFAULT_NAME;
}

/** Also halves of characters, and what breaks a line or changes the direction of what follows. */
const controls = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;
const allControls = new RegExp(controls.source, 'gu');
