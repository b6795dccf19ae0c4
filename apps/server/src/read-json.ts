/** Reads a request's body as JSON, within a bound. Whatever fails while it is read is the client that left: nothing else can. */
import type { Context } from 'hono';
import { ApiError, clientLeft } from './api-error.js';
import { JsonScanner, MAX_JSON_DEPTH, MAX_JSON_VALUES } from './json-scanner.js';
import { shortened } from './shortened.js';

/** @throws {ApiError} 415 for another content type, 413 beyond `maxBytes` or the bounds of json-scanner.ts, 400 `invalid_json`, 499 when the body is cut off. */
export async function readJson(context: Context, maxBytes: number): Promise<unknown> {
  const contentType = context.req.header('content-type') ?? '';
  if (!/^application\/json\b/i.test(contentType)) {
    throw new ApiError(
      415,
      `The body must be sent as application/json, got '${shortened(contentType) || 'no content-type'}'`,
      {
        code: 'unsupported_media_type',
      },
    );
  }
  if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw notReadOn(context, requestTooLarge(maxBytes));
  const text = await readText(context.req.raw.body, maxBytes).catch((error: unknown) => {
    throw notReadOn(context, error);
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ApiError(400, `The body is not valid JSON: ${reason}`, { code: 'invalid_json', cause: error });
  }
}

async function readText(body: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<string> {
  if (body === null) return '';
  const decoder = new TextDecoder();
  const scanner = new JsonScanner();
  const reader = body.getReader();
  const pieces: string[] = [];
  for (let size = 0; ; ) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      throw clientLeft(error);
    });
    if (done) return pieces.join('') + decoder.decode();
    size += value.byteLength;
    if (size > maxBytes) throw requestTooLarge(maxBytes);
    const broken = scanner.push(value);
    if (broken !== null) throw beyond(broken);
    pieces.push(decoder.decode(value, { stream: true }));
  }
}

/** What is still to come of the body is not read, so no other request can follow on the connection. */
function notReadOn(context: Context, error: unknown): unknown {
  context.header('connection', 'close');
  return error;
}

export function requestTooLarge(maxBytes: number): ApiError {
  return new ApiError(413, `The body is larger than the ${maxBytes} bytes this server takes`, {
    code: 'request_too_large',
  });
}

function beyond(bound: 'depth' | 'values'): ApiError {
  const what = {
    depth: `is nested deeper than the ${MAX_JSON_DEPTH} levels`,
    values: `has more than the ${MAX_JSON_VALUES} values`,
  };
  return new ApiError(413, `The body ${what[bound]} this server takes`, { code: 'request_too_large' });
}
