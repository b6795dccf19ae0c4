/** The body of POST /v1/sessions: JSON with a text, or a form with a file. */
import type { Context } from 'hono';
import { z } from 'zod';
import { checkBody } from '../check-fields.js';
import { type FieldTable, honoured, schemaOf } from '../field-rules.js';
import { mustBe } from '../invalid-value.js';
import { readJson } from '../read-json.js';
import { readForm } from '../uploads/read-form.js';
import type { TextConverter } from '../uploads/text-converter.js';
import { textOfFile } from '../uploads/text-of-file.js';
import { checkName, nameOfFile } from './session-json.js';

export interface DocumentRequest {
  readonly name: string;
  /** Not empty. */
  readonly text: string;
  /** As the client names it; left out: any. */
  readonly model?: string | undefined;
}

export interface ReadDocumentRequestOptions {
  readonly maxBodyBytes: number;
  readonly converter: TextConverter;
  /** Ends a conversion. */
  readonly signal: AbortSignal;
}

const formFields = {
  name: honoured('CTkvr', z.string(), 'of the session'),
  model: honoured('CTkvr', z.string().min(1), 'the name served'),
} satisfies FieldTable;
const formSchema = schemaOf(formFields, []);

/** Of the JSON body; a form has a file in place of the text. */
export const documentFields = {
  ...formFields,
  text: honoured('CTkvr', z.string().min(1), 'the document'),
} satisfies FieldTable;
export const documentSchema = schemaOf(documentFields, ['text']);

export const renameFields = { name: formFields.name } satisfies FieldTable;
export const renameSchema = schemaOf(renameFields, ['name']);

/** @throws {ApiError} 400, 413, 415 naming what is wrong. */
export async function readDocumentRequest(
  context: Context,
  options: ReadDocumentRequestOptions,
): Promise<DocumentRequest> {
  const { maxBodyBytes, converter, signal } = options;
  if (!/^multipart\/form-data\b/i.test(context.req.header('content-type') ?? '')) {
    const { name, text, model } = checkBody(await readJson(context, maxBodyBytes), documentFields, documentSchema);
    return { name: name === undefined ? nameOfFile(undefined) : checkName(name), text: checkText('text', text), model };
  }
  const { fields, file } = await readForm(context, 'file', maxBodyBytes);
  const { name, model } = checkBody(fields, formFields, formSchema);
  const checkedName = name === undefined ? nameOfFile(file?.fileName) : checkName(name);
  if (file === null) throw mustBe('file', 'a file', undefined);
  const text = await textOfFile(file, { converter, maxTextBytes: maxBodyBytes, signal });
  return { name: checkedName, text: checkText('file', text), model };
}

/** Returns the name of PATCH /v1/sessions/:id. @throws {ApiError} 400 */
export async function readRenameRequest(context: Context, maxBodyBytes: number): Promise<string> {
  return checkName(checkBody(await readJson(context, maxBodyBytes), renameFields, renameSchema).name);
}

function checkText(param: string, text: string): string {
  if (text.trim() === '') throw mustBe(param, 'a text that is not empty', text);
  return text;
}
