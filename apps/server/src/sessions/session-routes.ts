/** /v1/sessions: documents that are read once. What is asked about them is asked in chat completions. */
import type { Context, Hono } from 'hono';
import { ApiError } from '../api-error.js';
import { shortened } from '../shortened.js';
import { TextConverter } from '../uploads/text-converter.js';
import type { DocumentSessions, SessionInfo, SessionKey } from './document-sessions.js';
import { ownerOf } from './owner.js';
import { readDocumentRequest, readRenameRequest } from './read-document-request.js';
import { noSuchSession, toSessionError } from './session-error.js';
import { sessionEvents } from './session-events.js';
import { toSessionJson } from './session-json.js';
import { SessionRoom } from './session-room.js';
import { receiveSnapshot, sendSnapshot } from './snapshot-transfer.js';

export interface SessionRoutesDeps {
  readonly sessions: DocumentSessions;
  /** The name clients send. */
  readonly modelId: string;
  readonly maxBodyBytes: number;
  readonly keepAliveMs: number;
  /** Aborts when the server stops. */
  readonly stopSignal: AbortSignal;
  /** Sessions of one owner. Default 1,000. */
  readonly maxSessions?: number;
  /** Bytes of a snapshot that is sent here. Default 64 GiB. */
  readonly maxSnapshotBytes?: number;
}

export function addSessionRoutes(app: Hono, deps: SessionRoutesDeps): void {
  const { sessions, modelId, maxBodyBytes, keepAliveMs, stopSignal, maxSessions = 1000 } = deps;
  const { maxSnapshotBytes = 64 * 1024 ** 3 } = deps;
  const converter = new TextConverter();
  const room = new SessionRoom(sessions, maxSessions);
  const signalOf = (context: Context) => AbortSignal.any([context.req.raw.signal, stopSignal]);

  app.post('/v1/sessions', async (context) => {
    const owner = ownerOf(context);
    await room.check(owner); // before its body is read, which may be large
    const options = { maxBodyBytes, converter, signal: signalOf(context) };
    const { model, ...document } = await readDocumentRequest(context, options);
    if (model !== undefined && model !== modelId) throw noSuchModel(model, modelId);
    const session = await room.make(owner, () => told(sessions.create(owner, document), 'text'));
    return context.json(toSessionJson(session), 202);
  });

  app.post('/v1/sessions/import', async (context) => {
    const owner = ownerOf(context);
    await room.check(owner);
    const session = await receiveSnapshot(context, maxSnapshotBytes, (snapshot) =>
      room.make(owner, () => told(sessions.importFrom(owner, snapshot), null)),
    );
    return context.json(toSessionJson(session), 201);
  });

  app.get('/v1/sessions', async (context) => {
    const data = (await told(sessions.list(ownerOf(context)))).map(toSessionJson);
    return context.json({ object: 'list', data });
  });

  /** Answers with what `work` returns; 404 for null. */
  const one = async <T>(context: Context, work: (key: SessionKey) => Promise<T | null>): Promise<T> => {
    const key = keyOf(context);
    const result = await told(work(key));
    if (result === null || result === false) throw noSuchSession(key.id);
    return result;
  };
  const json = (context: Context, session: SessionInfo) => context.json(toSessionJson(session));

  app.get('/v1/sessions/:id', async (context) => json(context, await one(context, (key) => sessions.get(key))));

  app.get('/v1/sessions/:id/events', async (context) => {
    await one(context, (key) => sessions.get(key));
    const watch = (signal: AbortSignal) => sessions.watch(keyOf(context), signal);
    return sessionEvents(context, { watch, keepAliveMs, signal: signalOf(context) });
  });

  app.patch('/v1/sessions/:id', async (context) => {
    const name = await readRenameRequest(context, maxBodyBytes);
    return json(context, await one(context, (key) => sessions.rename(key, name)));
  });

  app.delete('/v1/sessions/:id', async (context) => {
    await one(context, (key) => sessions.remove(key));
    return context.json({ id: keyOf(context).id, object: 'session', deleted: true });
  });

  app.post('/v1/sessions/:id/fork', async (context) => {
    await one(context, (key) => sessions.get(key));
    const session = await room.make(ownerOf(context), () => one(context, (key) => sessions.fork(key)));
    return context.json(toSessionJson(session), 201);
  });

  app.get('/v1/sessions/:id/passages', async (context) => {
    const { passageTokens, passages } = await one(context, (key) => sessions.passages(key, signalOf(context)));
    return context.json({ passage_tokens: passageTokens, passages });
  });

  app.get('/v1/sessions/:id/export', (context) =>
    sendSnapshot(context, keyOf(context).id, (path) => one(context, (key) => sessions.exportTo(key, path))),
  );
}

function keyOf(context: Context): SessionKey {
  return { owner: ownerOf(context), id: context.req.param('id') ?? '' };
}

function noSuchModel(name: string, modelId: string): ApiError {
  return new ApiError(404, `Documents are read by '${modelId}' here, not by '${shortened(name)}'`, {
    param: 'model',
    code: 'model_not_found',
  });
}

/** Waits for what sessions do, and says what went wrong in the client's words. */
function told<T>(work: Promise<T>, param: string | null = null): Promise<T> {
  return work.catch((error: unknown) => {
    throw toSessionError(error, param);
  });
}
