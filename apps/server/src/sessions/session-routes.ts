/** /v1/sessions: documents that are read once. What is asked about them is asked in chat completions. */
import type { Context, Hono } from 'hono';
import { TextConverter } from '../uploads/text-converter.js';
import type { SessionInfo, SessionKey } from './document-sessions.js';
import { ownerOf } from './owner.js';
import { readDocumentRequest, readRenameRequest } from './read-document-request.js';
import type { Reader, ServedSession, ServedSessions } from './served-sessions.js';
import { noSuchSession, toSessionError } from './session-error.js';
import { sessionEvents } from './session-events.js';
import { toSessionJson } from './session-json.js';
import { SessionRoom } from './session-room.js';
import { receiveSnapshot, sendSnapshot } from './snapshot-transfer.js';

export interface SessionRoutesDeps {
  readonly sessions: ServedSessions;
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
  const { sessions: served, maxBodyBytes, keepAliveMs, stopSignal, maxSessions = 1000 } = deps;
  const { maxSnapshotBytes = 64 * 1024 ** 3 } = deps;
  const converter = new TextConverter();
  const room = new SessionRoom(served, maxSessions);
  const signalOf = (context: Context) => AbortSignal.any([context.req.raw.signal, stopSignal]);

  app.post('/v1/sessions', async (context) => {
    const owner = ownerOf(context);
    await room.check(owner); // before its body is read, which may be large
    const options = { maxBodyBytes, converter, signal: signalOf(context) };
    const { model: asked, ...document } = await readDocumentRequest(context, options);
    const { model, sessions } = served.readerOf(asked);
    const session = await room.make(owner, () => told(sessions.create(owner, document), 'text'));
    return context.json(toSessionJson({ model, session }), 202);
  });

  app.post('/v1/sessions/import', async (context) => {
    const owner = ownerOf(context);
    const { model, sessions } = served.readerOf(context.req.query('model'));
    await room.check(owner);
    const session = await receiveSnapshot(context, maxSnapshotBytes, (snapshot) =>
      room.make(owner, () => told(sessions.importFrom(owner, snapshot), null)),
    );
    return context.json(toSessionJson({ model, session }), 201);
  });

  app.get('/v1/sessions', async (context) => {
    const data = (await told(served.list(ownerOf(context)))).map(toSessionJson);
    return context.json({ object: 'list', data });
  });

  /** The session that the path names, with the model that has it. @throws {ApiError} 404 */
  const find = async (context: Context) => {
    const key = keyOf(context);
    const found = await told(served.find(key));
    if (found === null) throw noSuchSession(key.id);
    return found;
  };
  /** Returns what is done with it. @throws {ApiError} 404, also when it has gone meanwhile. */
  const one = async <T>(context: Context, work: (reader: Reader, key: SessionKey) => Promise<T | null>): Promise<T> => {
    const [reader, key] = [await find(context), keyOf(context)];
    const result = await told(work(reader, key));
    if (result === null || result === false) throw noSuchSession(key.id);
    return result;
  };

  app.get('/v1/sessions/:id', async (context) => context.json(toSessionJson(await find(context))));

  app.get('/v1/sessions/:id/events', async (context) => {
    const { model, sessions } = await find(context);
    const watch = (signal: AbortSignal) => sessions.watch(keyOf(context), signal);
    return sessionEvents(context, { model, watch, keepAliveMs, signal: signalOf(context) });
  });

  app.patch('/v1/sessions/:id', async (context) => {
    const name = await readRenameRequest(context, maxBodyBytes);
    const renamed = await one(context, ({ model, sessions }, key) => withModel(model, sessions.rename(key, name)));
    return context.json(toSessionJson(renamed));
  });

  app.delete('/v1/sessions/:id', async (context) => {
    await one(context, ({ sessions }, key) => sessions.remove(key));
    return context.json({ id: keyOf(context).id, object: 'session', deleted: true });
  });

  app.post('/v1/sessions/:id/fork', async (context) => {
    await find(context);
    const fork = () => one(context, ({ model, sessions }, key) => withModel(model, sessions.fork(key)));
    return context.json(toSessionJson(await room.make(ownerOf(context), fork)), 201);
  });

  app.get('/v1/sessions/:id/passages', async (context) => {
    const signal = signalOf(context);
    const { passageTokens, passages } = await one(context, ({ sessions }, key) => sessions.passages(key, signal));
    return context.json({ passage_tokens: passageTokens, passages });
  });

  app.get('/v1/sessions/:id/export', (context) =>
    sendSnapshot(context, keyOf(context).id, (path) =>
      one(context, ({ sessions }, key) => sessions.exportTo(key, path)),
    ),
  );
}

function keyOf(context: Context): SessionKey {
  return { owner: ownerOf(context), id: context.req.param('id') ?? '' };
}

/** What a model did, with its name. */
async function withModel(model: string, work: Promise<SessionInfo | null>): Promise<ServedSession | null> {
  const session = await work;
  return session === null ? null : { model, session };
}

/** Waits for what sessions do, and says what went wrong in the client's words. */
function told<T>(work: Promise<T>, param: string | null = null): Promise<T> {
  return work.catch((error: unknown) => {
    throw toSessionError(error, param);
  });
}
