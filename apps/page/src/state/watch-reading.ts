import { type DocumentSession, getDocument, readingEvents } from '../server/documents.js';
import { ServerError } from '../server/server-error.js';

/** Pauses before a lost connection is tried again, ms; the last one repeats. */
const PAUSES_MS = [500, 1000, 2000, 5000];

const watched = new Set<string>();

export function isWatched(id: string): boolean {
  return watched.has(id);
}

/** Tells of the document each time that more of it has been read, until it is ready or failed. A lost connection is made anew. */
export async function watchReading(id: string, tell: (document: DocumentSession) => void): Promise<void> {
  watched.add(id);
  try {
    for (let losses = 0; ; losses++) {
      try {
        for await (const document of readingEvents(id)) {
          losses = 0;
          tell(document);
        }
        const document = await getDocument(id);
        tell(document);
        if (document.state !== 'reading') return;
      } catch (error) {
        if (error instanceof ServerError && error.status === 404) return; // deleted
        if (error instanceof ServerError && error.status !== 503) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSES_MS[Math.min(losses, PAUSES_MS.length - 1)]));
    }
  } finally {
    watched.delete(id);
  }
}
