/** Texts of the documents that the reader has been at. A document's text never changes. */
import { type Signal, signal } from '@preact/signals';
import { getPassages } from '../server/documents.js';
import { report } from './notice.js';

const loaded = new Map<string, Signal<readonly string[] | null>>();

/** The document's passages; null until they have come. */
export function passagesOf(documentId: string): Signal<readonly string[] | null> {
  let passages = loaded.get(documentId);
  if (passages === undefined) {
    passages = signal(null);
    loaded.set(documentId, passages);
    load(documentId, passages);
  }
  return passages;
}

async function load(documentId: string, into: Signal<readonly string[] | null>): Promise<void> {
  try {
    into.value = (await getPassages(documentId)).passages;
  } catch (error) {
    loaded.delete(documentId); // asked for again at the next visit
    report(error);
  }
}
