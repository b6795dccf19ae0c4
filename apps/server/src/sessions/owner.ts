/** Whose sessions a request may see. */
import type { Context } from 'hono';
import { callerOf } from '../keys/caller.js';

/** Each API key has its own; without keys all are of one owner. */
export function ownerOf(context: Context): string {
  const { isKnown, name } = callerOf(context);
  return isKnown ? name : '';
}
