/** A streamed answer, /v1/chat/completions. */
import type { ReadMap } from '../read-map/read-map.js';
import { eventData } from './event-stream.js';
import { requestWithJson } from './request.js';
import { ServerError } from './server-error.js';

export interface Message {
  readonly role: 'user' | 'assistant';
  readonly content: string;
}

export interface Question {
  readonly model: string;
  /** The document that is asked; null = a chat without one. */
  readonly documentId: string | null;
  readonly messages: readonly Message[];
  readonly signal: AbortSignal;
}

/** What the server says of an answer at its end. */
export interface Statistics {
  readonly time_to_first_token_ms: number;
  readonly ms_per_token: number;
  readonly keys_read_per_head: number;
  readonly keys_per_head: number;
}

export type AnswerEvent =
  | { readonly kind: 'token'; readonly text: string; readonly readMap: ReadMap }
  | { readonly kind: 'thought' }
  | { readonly kind: 'cut' }
  | { readonly kind: 'statistics'; readonly statistics: Statistics };

interface Chunk {
  readonly error?: { readonly message: string; readonly code?: string };
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null; readonly reasoning_content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly ctkvr?: Partial<Statistics> & { readonly read_map?: ReadMap };
}

/** Facts are asked of a document, so its answers are the likeliest ones, as with `ctkvr ask`. */
const DOCUMENT_TEMPERATURE = 0;
const CHAT_TEMPERATURE = 0.7;

/** @throws {ServerError} also when the stream ends before the answer does. */
export async function* ask({ model, documentId, messages, signal }: Question): AsyncGenerator<AnswerEvent> {
  const ofDocument = { session: documentId, ctkvr: { read_map: true }, temperature: DOCUMENT_TEMPERATURE };
  const body = {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...(documentId === null ? { temperature: CHAT_TEMPERATURE } : ofDocument),
  };
  const response = await requestWithJson('/v1/chat/completions', 'POST', body, { signal });
  if (response.body !== null) {
    for await (const data of eventData(response.body)) {
      if (data === '[DONE]') return;
      yield* answerEvents(JSON.parse(data) as Chunk);
    }
  }
  throw new ServerError('The connection was lost before the answer was whole.');
}

function* answerEvents({ error, choices, ctkvr }: Chunk): Generator<AnswerEvent> {
  if (error !== undefined) throw new ServerError(error.message, { code: error.code ?? null });
  const choice = choices?.[0];
  if (choice?.delta?.reasoning_content) yield { kind: 'thought' };
  if (choice?.delta?.content) yield { kind: 'token', text: choice.delta.content, readMap: ctkvr?.read_map ?? [] };
  if (choice?.finish_reason === 'length') yield { kind: 'cut' };
  if (isStatistics(ctkvr)) yield { kind: 'statistics', statistics: ctkvr };
}

function isStatistics(ctkvr: Partial<Statistics> | undefined): ctkvr is Statistics {
  return ctkvr?.ms_per_token !== undefined && ctkvr.keys_per_head !== undefined;
}
