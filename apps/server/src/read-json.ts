/** Reads a request's body as JSON, within a bound. Whatever fails while it is read is the client that left: nothing else can. */
import type { Context } from 'hono';
import { ApiError, clientLeft } from './api-error.js';

/** @throws {ApiError} 415 for another content type, 413 beyond `maxBytes`, 400 `invalid_json`, 499 when the body is cut off. */
export async function readJson(context: Context, maxBytes: number): Promise<unknown> {
  const contentType = context.req.header('content-type') ?? '';
  if (!/^application\/json\b/i.test(contentType)) {
    throw new ApiError(415, `The body must be sent as application/json, got '${contentType || 'no content-type'}'`, {
      code: 'unsupported_media_type',
    });
  }
  if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw requestTooLarge(maxBytes); // before it is sent
  const text = await readText(context.req.raw.body, maxBytes);
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
  const reader = body.getReader();
  const pieces: string[] = [];
  for (let size = 0; ; ) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      throw clientLeft(error);
    });
    if (done) return pieces.join('') + decoder.decode();
    size += value.byteLength;
    if (size > maxBytes) throw requestTooLarge(maxBytes);
    pieces.push(decoder.decode(value, { stream: true }));
  }
}

export function requestTooLarge(maxBytes: number): ApiError {
  return new ApiError(413, `The body is larger than the ${maxBytes} bytes this server takes`, {
    code: 'request_too_large',
  });
}
