/** Whose sessions a request may see. */
import type { Context } from 'hono';

/** There are no API keys yet: everybody is the same owner. */
export function ownerOf(_context: Context): string {
  return '';
}
