/** Snapshots on their way to and from a client, through a file that is gone afterwards. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import type { Context } from 'hono';
import { ApiError, clientLeft } from '../api-error.js';
import { requestTooLarge } from '../read-json.js';
import type { SessionInfo } from './document-sessions.js';
import { checkName, nameOfFile } from './session-json.js';

/** Answers with the file that `write` makes. */
export async function sendSnapshot(
  context: Context,
  id: string,
  write: (path: string) => Promise<unknown>,
): Promise<Response> {
  const folder = await mkdtemp(join(tmpdir(), 'ctkvr-export-'));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, 'snapshot');
    await write(path);
    const { size } = await stat(path);
    const file = createReadStream(path);
    file.once('close', () => void remove());
    return context.body(Readable.toWeb(file) as globalThis.ReadableStream, 200, {
      'content-type': 'application/octet-stream',
      'content-length': String(size),
      'content-disposition': `attachment; filename="${id}.ctkvr"`,
    });
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Passes the file that a client has sent on to `use`; its name is in the query. @throws {ApiError} 400, 413, 503 when the disk is full. */
export async function receiveSnapshot(
  context: Context,
  maxBytes: number,
  use: (snapshot: { readonly name: string; readonly path: string }) => Promise<SessionInfo>,
): Promise<SessionInfo> {
  const asked = context.req.query('name');
  const name = asked === undefined ? nameOfFile(undefined) : checkName(asked);
  if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw requestTooLarge(maxBytes);
  const { body } = context.req.raw;
  if (body === null) throw new ApiError(400, 'The body must be a snapshot, got nothing', { code: 'invalid_value' });
  const folder = await mkdtemp(join(tmpdir(), 'ctkvr-import-'));
  try {
    const path = join(folder, 'snapshot');
    await pipeline(Readable.fromWeb(body as ReadableStream), upTo(maxBytes), createWriteStream(path)).catch(toldApart);
    return await use({ name, path });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function upTo(maxBytes: number): Transform {
  let numBytes = 0;
  return new Transform({
    transform(piece: Uint8Array, _encoding, done) {
      numBytes += piece.length;
      if (numBytes > maxBytes) done(requestTooLarge(maxBytes));
      else done(null, piece);
    },
  });
}

function toldApart(error: NodeJS.ErrnoException): never {
  if (error instanceof ApiError) throw error;
  if (error.code === 'ENOSPC')
    throw new ApiError(503, 'The disk is full.', { code: 'disk_full', retryAfterSeconds: 60 });
  throw clientLeft(error);
}
