/** The server's documents as this page knows them. */
import { computed, signal } from '@preact/signals';
import type { DocumentSession } from '../server/documents.js';
import * as server from '../server/documents.js';
import { forget } from './conversations.js';
import { model } from './models.js';
import { report } from './notice.js';
import { goTo, place } from './place.js';
import { isWatched, watchReading } from './watch-reading.js';

/** Newest first; null = the server has no document sessions. */
export const documents = signal<readonly DocumentSession[] | null>([]);

/** Whether the server's list has come. */
export const documentsAreListed = signal(false);

/** Names of files on their way to the server. */
export const sending = signal<readonly string[]>([]);

/** The document that the reader is at. */
export const currentDocument = computed(() => {
  const here = place.value;
  return here.kind === 'document' ? (documents.value?.find(({ id }) => id === here.id) ?? null) : null;
});

export async function loadDocuments(): Promise<void> {
  const listed = await server.listDocuments();
  documents.value = listed?.toSorted((a, b) => b.created - a.created) ?? null;
  documentsAreListed.value = true;
  for (const document of listed ?? []) follow(document);
}

/** Sends files one after the other and goes to the first. */
export async function addFiles(files: readonly File[]): Promise<void> {
  for (const [index, file] of files.entries()) {
    const document = await send(file.name, () => server.sendFile(file, model.value));
    if (document !== null && index === 0) goTo({ kind: 'document', id: document.id });
  }
}

/** Sends a text under the name of its first words. */
export async function addText(text: string): Promise<void> {
  const name = text.trim().split(/\s+/).slice(0, 6).join(' ').slice(0, 60);
  const document = await send(name, () => server.sendText(text, name, model.value));
  if (document !== null) goTo({ kind: 'document', id: document.id });
}

async function send(name: string, post: () => Promise<DocumentSession>): Promise<DocumentSession | null> {
  sending.value = [...sending.value, name];
  try {
    const document = await post();
    update(document);
    follow(document);
    return document;
  } catch (error) {
    report(error);
    return null;
  } finally {
    sending.value = sending.value.toSpliced(sending.value.indexOf(name), 1);
  }
}

export async function renameDocument(id: string, name: string): Promise<void> {
  await server.renameDocument(id, name).then(update, report);
}

export async function deleteDocument(id: string): Promise<void> {
  try {
    await server.deleteDocument(id);
  } catch (error) {
    return report(error);
  }
  documents.value = documents.value?.filter((other) => other.id !== id) ?? null;
  forget(`document.${id}`);
  if (place.value.kind === 'document' && place.value.id === id) goTo({ kind: 'start' });
}

/** Has the browser save the document's file. */
export async function exportDocument({ id, name }: DocumentSession): Promise<void> {
  try {
    const url = URL.createObjectURL(await server.exportDocument(id));
    Object.assign(document.createElement('a'), { href: url, download: `${name}.ctkvr` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // by then the browser has taken it
  } catch (error) {
    report(error);
  }
}

function follow(document: DocumentSession): void {
  if (document.state === 'reading' && !isWatched(document.id)) watchReading(document.id, update).catch(report);
}

function update(document: DocumentSession): void {
  const known = documents.value ?? [];
  const at = known.findIndex(({ id }) => id === document.id);
  documents.value = at < 0 ? [document, ...known] : known.with(at, document);
}
