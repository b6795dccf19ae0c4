/** What an uploaded file is, by its first bytes; its name and declared type decide between text and HTML only. */
import { ApiError } from '../api-error.js';

/** tgz = tar in gzip. */
export type UploadKind = 'text' | 'html' | 'pdf' | 'zip' | 'tar' | 'tgz';

export interface UploadFacts {
  /** The first bytes, some hundred where it has as many. */
  readonly head: Buffer;
  /** As the client declares it; '' = not at all. */
  readonly contentType: string;
  readonly fileName: string;
}

/** A PDF may have other bytes before its own. */
const PDF_SEARCHED_BYTES = 1024;

const TAR_MAGIC_AT = 257;
/** Where the name of the first file of a ZIP archive stands. */
const ZIP_NAME_AT = 30;
/** The first files of .docx, .odt and .epub. */
const documentParts = /^(\[Content_Types\]\.xml|_rels\/|mimetype)/;

/** Files that people take for documents, by their first bytes (hexadecimal). */
const otherKinds: readonly (readonly [magic: string, what: string])[] = [
  ['425a68', 'bzip2'],
  ['fd377a585a00', 'xz'],
  ['28b52ffd', 'zstd'],
  ['377abcaf271c', 'a 7z archive'],
  ['52617221', 'a RAR archive'],
  ['d0cf11e0a1b11ae1', 'an old Office document'],
  ['7b5c727466', 'RTF'],
  ['89504e47', 'a PNG image'],
  ['ffd8ff', 'a JPEG image'],
  ['47494638', 'a GIF image'],
  ['7f454c46', 'a program'],
  ['4d5a9000', 'a program'],
];

/** @throws {ApiError} 415 for what is none of them. */
export function kindOfUpload({ head, contentType, fileName }: UploadFacts): UploadKind {
  const hex = head.toString('hex');
  if (/^504b(0304|0506)/.test(hex)) {
    if (!documentParts.test(head.toString('latin1', ZIP_NAME_AT))) return 'zip';
    throw unsupported('a document in a ZIP archive, such as .docx, .odt and .epub');
  }
  if (hex.startsWith('1f8b')) return 'tgz';
  if (head.toString('latin1', TAR_MAGIC_AT, TAR_MAGIC_AT + 5) === 'ustar') return 'tar';
  if (head.subarray(0, PDF_SEARCHED_BYTES).includes('%PDF-')) return 'pdf';
  const other = otherKinds.find(([magic]) => hex.startsWith(magic));
  if (other !== undefined) throw unsupported(other[1]);
  if (head.includes(0)) throw unsupported('a binary file, or text that is not UTF-8');
  if (/^application\/pdf\b/i.test(contentType)) throw unsupported('no PDF, though its content type says so');
  const looksLikeHtml = /^\s*(<\?xml[^>]*>\s*)?<(!doctype html|html)\b/i.test(
    head.toString('latin1').replace(/^ï»¿/, ''),
  );
  const isSaidToBe = /^(text\/html|application\/xhtml\+xml)\b/i.test(contentType) || /\.x?html?$/i.test(fileName);
  return looksLikeHtml || isSaidToBe ? 'html' : 'text';
}

function unsupported(what: string): ApiError {
  const message = `'file' must be plain text, Markdown, HTML, PDF, or a .zip, .tar or .tar.gz of them, got ${what}`;
  return new ApiError(415, message, { param: 'file', code: 'unsupported_media_type' });
}
