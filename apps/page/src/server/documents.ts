/** The document sessions of the server, /v1/sessions. */
import { eventData } from './event-stream.js';
import { request, requestWithJson } from './request.js';
import { ServerError } from './server-error.js';

export interface DocumentSession {
  readonly id: string;
  /** Name of the model that reads it, and that is asked about it. */
  readonly model: string;
  readonly name: string;
  /** saved = on the server's disk only, until it is asked. */
  readonly state: 'reading' | 'ready' | 'failed' | 'saved';
  readonly tokens_done: number;
  readonly tokens_total: number;
  /** Seconds since 1970. */
  readonly created: number;
  readonly tokens_per_second?: number;
  readonly error?: { readonly message: string };
}

/** Whether it can be asked. */
export function isRead({ state }: DocumentSession): boolean {
  return state === 'ready' || state === 'saved';
}

/** The document's text in pieces of the same number of tokens; a read map counts in these. */
export interface Passages {
  readonly passage_tokens: number;
  readonly passages: readonly string[];
}

const path = (id: string, part = '') => `/v1/sessions/${encodeURIComponent(id)}${part}`;

/** null = this server has no document sessions. */
export async function listDocuments(): Promise<DocumentSession[] | null> {
  try {
    const { data } = (await (await request('/v1/sessions')).json()) as { data: DocumentSession[] };
    return data;
  } catch (error) {
    if (error instanceof ServerError && error.status === 404) return null;
    throw error;
  }
}

export async function getDocument(id: string): Promise<DocumentSession> {
  return (await request(path(id))).json();
}

/** Sends a file; the server answers before it has read it. */
export async function sendFile(file: File, model: string): Promise<DocumentSession> {
  const body = new FormData();
  body.set('model', model);
  body.set('name', file.name);
  body.set('file', file);
  return (await request('/v1/sessions', { method: 'POST', body })).json();
}

export async function sendText(text: string, name: string, model: string): Promise<DocumentSession> {
  return (await requestWithJson('/v1/sessions', 'POST', { name, text, model })).json();
}

export async function renameDocument(id: string, name: string): Promise<DocumentSession> {
  return (await requestWithJson(path(id), 'PATCH', { name })).json();
}

export async function deleteDocument(id: string): Promise<void> {
  await request(path(id), { method: 'DELETE' });
}

export async function getPassages(id: string): Promise<Passages> {
  return (await request(path(id, '/passages'))).json();
}

/** The session's file, under a name that the document's own gives. */
export async function exportDocument(id: string): Promise<Blob> {
  return (await request(path(id, '/export'))).blob();
}

/** The session each time that more of it has been read; ends when it is ready or failed, or when the connection does. */
export async function* readingEvents(id: string): AsyncGenerator<DocumentSession> {
  const { body } = await request(path(id, '/events'));
  if (body === null) return;
  for await (const data of eventData(body)) yield JSON.parse(data) as DocumentSession;
}
