/** Reads a form with one file, within a bound. */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { Busboy, type BusboyHeaders } from '@fastify/busboy';
import type { Context } from 'hono';
import { ApiError, clientLeft } from '../api-error.js';
import { requestTooLarge } from '../read-json.js';

export interface UploadedFile {
  readonly bytes: readonly Uint8Array[];
  /** As the client says. */
  readonly fileName: string;
  readonly contentType: string;
}

export interface Form {
  /** Texts by their names. */
  readonly fields: Readonly<Record<string, string>>;
  /** null when there is none. */
  readonly file: UploadedFile | null;
}

/** A name, a model, and some more to name in an error. */
const MAX_FIELDS = 16;
const MAX_FIELD_BYTES = 10_000;

/** @param fileField the only field that may be a file. @throws {ApiError} 400, 413, or 499 when the body is cut off. */
export function readForm(context: Context, fileField: string, maxBytes: number): Promise<Form> {
  const body = context.req.raw.body;
  const headers = context.req.header() as BusboyHeaders;
  if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw requestTooLarge(maxBytes); // before it is sent
  return new Promise((resolve, reject) => {
    const fields: [string, string][] = [];
    let file: UploadedFile | null = null;
    const source = Readable.fromWeb((body ?? new Blob([]).stream()) as ReadableStream);
    const fail = (error: ApiError) => {
      source.unpipe(form);
      source.resume(); // the client has its answer once it has sent all
      reject(error);
    };
    const form = parser(headers, maxBytes, fail);
    form.on('field', (name, value, _nameCut, valueCut) => {
      if (valueCut) fail(badForm(`'${name.slice(0, 60)}' is longer than ${MAX_FIELD_BYTES} bytes`));
      fields.push([name, value]);
    });
    form.on('file', (name, stream, fileName, _encoding, contentType) => {
      if (name !== fileField || file !== null) {
        stream.resume();
        fail(badForm(`it must hold one file, '${fileField}', got another, '${name.slice(0, 60)}'`));
        return;
      }
      const bytes: Uint8Array[] = [];
      file = { bytes, fileName: fileName ?? '', contentType: contentType ?? '' };
      stream.on('data', (piece: Uint8Array) => bytes.push(piece));
      stream.on('limit', () => fail(requestTooLarge(maxBytes)));
    });
    form.on('fieldsLimit', () => fail(badForm(`it has more than ${MAX_FIELDS} fields`)));
    form.on('error', (error) => fail(badForm(error instanceof Error ? error.message : String(error))));
    form.on('finish', () => resolve({ fields: Object.fromEntries(fields), file }));
    source.on('error', (error) => reject(clientLeft(error)));
    source.pipe(form);
  });
}

function badForm(reason: string): ApiError {
  return new ApiError(400, `The form cannot be read: ${reason}`, { code: 'invalid_value' });
}
