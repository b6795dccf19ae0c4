/** The text of an uploaded file. */
import { ApiError } from '../api-error.js';
import { decodeUtf8 } from './decode-utf8.js';
import type { UploadedFile } from './read-form.js';
import type { TextConverter } from './text-converter.js';
import { kindOfUpload } from './upload-kind.js';

export interface TextOfFileOptions {
  readonly converter: TextConverter;
  /** Bytes of the text, in UTF-8. */
  readonly maxTextBytes: number;
  readonly signal: AbortSignal;
}

/** Bytes by which a file's kind is found. */
const HEAD_BYTES = 4096;

/** @throws {ApiError} 415 for another kind of file, 400 for one that is damaged, 413 for one that takes too much. */
export async function textOfFile(
  { bytes, fileName, contentType }: UploadedFile,
  options: TextOfFileOptions,
): Promise<string> {
  const kind = kindOfUpload({ head: headOf(bytes), fileName, contentType });
  if (kind !== 'text') return await options.converter.convert({ kind, file: bytes, ...options });
  try {
    return decodeUtf8(bytes);
  } catch (cause) {
    throw new ApiError(400, "'file' must be text in UTF-8, got other bytes", {
      param: 'file',
      code: 'invalid_value',
      cause,
    });
  }
}

function headOf(bytes: readonly Uint8Array[]): Buffer {
  const pieces: Uint8Array[] = [];
  let numBytes = 0;
  for (const piece of bytes) {
    if (numBytes >= HEAD_BYTES) break;
    pieces.push(piece.subarray(0, HEAD_BYTES - numBytes));
    numBytes += piece.length;
  }
  return Buffer.concat(pieces);
}
