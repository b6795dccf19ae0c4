/** Reads a form with texts and one file, within a bound. */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { Busboy, type BusboyHeaders, type BusboyInstance } from '@fastify/busboy';
import type { Context } from 'hono';
import { ApiError, clientLeft } from '../api-error.js';
import { requestTooLarge } from '../read-json.js';
import { shortened } from '../shortened.js';

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

/** More than any form here has, so that an unknown one can be named. */
const MAX_FIELDS = 16;
const MAX_FIELD_BYTES = 10_000;

/** @throws {ApiError} 400 for what is no form, or has another file than `fileField`; 413 beyond `maxBytes`; 499 when the body is cut off. */
export async function readForm(context: Context, fileField: string, maxBytes: number): Promise<Form> {
  if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw requestTooLarge(maxBytes); // before it is sent
  const form = parserOf(context, maxBytes);
  const source = Readable.fromWeb((context.req.raw.body ?? new Blob([]).stream()) as ReadableStream);
  try {
    return await new Promise((resolve, reject) => {
      const refuse = (error: unknown) => reject(badForm(reasonOf(error)));
      const fields: [string, string][] = [];
      let file: UploadedFile | null = null;
      form.on('field', (name, value, _isNameCut, isValueCut) => {
        if (isValueCut) reject(badForm(`'${shortened(name)}' has more than ${MAX_FIELD_BYTES} bytes`));
        fields.push([name, value]);
      });
      form.on('file', (name, stream, fileName, _encoding, contentType) => {
        stream.on('error', refuse); // of a form that is cut off
        if (name !== fileField || file !== null) {
          stream.resume();
          reject(badForm(`it must have one file, '${fileField}', got '${shortened(name)}' too`));
          return;
        }
        const bytes: Uint8Array[] = [];
        file = { bytes, fileName, contentType };
        stream.on('data', (piece: Uint8Array) => bytes.push(piece));
        stream.on('limit', () => reject(requestTooLarge(maxBytes)));
      });
      form.on('fieldsLimit', () => reject(badForm(`it has more than ${MAX_FIELDS} fields`)));
      form.on('partsLimit', () => reject(badForm('it has too many parts')));
      form.on('error', refuse);
      form.on('finish', () => resolve({ fields: Object.fromEntries(fields), file }));
      source.on('error', (error) => reject(clientLeft(error)));
      source.pipe(form);
    });
  } finally {
    source.unpipe(form);
  }
}

function parserOf(context: Context, maxBytes: number): BusboyInstance {
  try {
    return new Busboy({
      headers: context.req.header() as BusboyHeaders,
      limits: { fileSize: maxBytes, fields: MAX_FIELDS, fieldSize: MAX_FIELD_BYTES, parts: MAX_FIELDS + 2 },
    });
  } catch (error) {
    throw badForm(reasonOf(error)); // no boundary in the content type
  }
}

function badForm(reason: string): ApiError {
  return new ApiError(400, `The form cannot be read: ${reason}`, { code: 'invalid_value' });
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
