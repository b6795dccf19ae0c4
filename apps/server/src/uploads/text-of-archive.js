/**
 * The text of a source archive: its text files in the order of their names, each under a line with its path. Nothing is written to the disk;
 * links, devices and archives inside it are not followed. JavaScript, as it runs in the conversion process.
 */
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

/** What a file may take before it is stopped. */
export class ArchiveLimitError extends Error {}

const MAX_ENTRIES = 20_000;
/** Of all its files together, unpacked. */
const MAX_UNPACKED_BYTES = 2 ** 27;

const skippedFolders = new Set(['node_modules', '.git', '.hg', '.svn', 'target', 'dist', '__pycache__', '.venv']);
const lockFiles = /^(.+\.lock|package-lock\.json|npm-shrinkwrap\.json|pnpm-lock\.yaml|go\.sum)$/i;

/** @param {'zip' | 'tar' | 'tgz'} kind @param {Buffer} bytes @returns {Promise<string>} */
export async function textOfArchive(kind, bytes) {
  const found = new FoundFiles();
  await (kind === 'zip' ? readZip(bytes, found) : readTar(bytes, kind === 'tgz', found));
  return found.text();
}

class FoundFiles {
  #numEntries = 0;
  #numBytes = 0;
  #numSkipped = 0;
  /** @type {{ path: string, text: string }[]} */
  #files = [];

  countEntry() {
    if (++this.#numEntries > MAX_ENTRIES) throw new ArchiveLimitError(`it has more than ${MAX_ENTRIES} entries`);
  }

  /** @param {number} numBytes */
  countBytes(numBytes) {
    this.#numBytes += numBytes;
    if (this.#numBytes > MAX_UNPACKED_BYTES) {
      throw new ArchiveLimitError(`it unpacks to more than ${MAX_UNPACKED_BYTES} bytes`);
    }
  }

  /** Whether to read a file of this path; if not, it counts as left out. @param {string} path */
  wants(path) {
    const names = path.split('/');
    const wanted = !names.slice(0, -1).some((name) => skippedFolders.has(name)) && !lockFiles.test(names.at(-1) ?? '');
    if (!wanted) this.#numSkipped += 1;
    return wanted;
  }

  /** @param {string} path @param {Uint8Array} bytes */
  add(path, bytes) {
    try {
      if (bytes.includes(0)) throw new TypeError('binary');
      this.#files.push({ path, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) });
    } catch {
      this.#numSkipped += 1;
    }
  }

  text() {
    if (this.#files.length === 0) throw new Error('it holds no text files');
    const inOrder = this.#files.toSorted((a, b) => (a.path < b.path ? -1 : Number(a.path > b.path)));
    const parts = inOrder.map(({ path, text }) => `===== ${path} =====\n${text.trimEnd()}\n`);
    if (this.#numSkipped > 0) parts.push(`===== Files left out: ${this.#numSkipped} =====\n`);
    return parts.join('\n');
  }
}

/** @param {Buffer} bytes @param {FoundFiles} found */
async function readZip(bytes, found) {
  const { fromBufferPromise, getFileNameLowLevel } = await import('yauzl');
  const zip = await fromBufferPromise(bytes, { decodeStrings: false }); // decoded names are refused where they are paths elsewhere
  for await (const entry of zip.eachEntry()) {
    found.countEntry();
    const path = shownPath(
      getFileNameLowLevel(entry.generalPurposeBitFlag, entry.fileNameRaw, entry.extraFields, false),
    );
    const fileType = (entry.externalFileAttributes >>> 16) & 0o170000;
    const isFolder = entry.fileNameRaw.at(-1) === 0x2f;
    if (isFolder || (fileType !== 0 && fileType !== 0o100000) || !found.wants(path)) continue;
    if (entry.isEncrypted()) throw new Error('it is encrypted');
    found.add(path, await bytesOf(await zip.openReadStreamPromise(entry), found));
  }
}

/** @param {Buffer} bytes @param {boolean} isGzip @param {FoundFiles} found */
async function readTar(bytes, isGzip, found) {
  const { Parser } = await import('tar');
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      found.countEntry();
      const path = shownPath(entry.path);
      const isFile = entry.type === 'File' || entry.type === 'OldFile' || entry.type === 'ContiguousFile';
      if (!isFile || !found.wants(path)) return entry.resume();
      /** @type {Uint8Array[]} */
      const pieces = [];
      entry.on('data', (piece) => pieces.push(piece));
      entry.on('end', () => found.add(path, Buffer.concat(pieces)));
    },
  });
  const ended = new Promise((resolve, reject) => parser.on('end', resolve).on('error', reject));
  /** @param {AsyncIterable<Uint8Array>} source */
  const feed = async (source) => {
    for await (const piece of source) {
      found.countBytes(piece.length);
      parser.write(piece);
    }
    parser.end();
    await ended;
  };
  ended.catch(() => {}); // told by `feed`
  const source = Readable.from([bytes]);
  await feed(isGzip ? source.pipe(createGunzip()) : source);
}

/** @param {AsyncIterable<Uint8Array>} stream @param {FoundFiles} found */
async function bytesOf(stream, found) {
  const pieces = [];
  for await (const piece of stream) {
    found.countBytes(piece.length);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** A path that stays inside the archive and on its line. @param {string} path */
function shownPath(path) {
  const names = path.replace(/[\p{Cc}\p{Cs}\u2028-\u202e\u2066-\u2069]/gu, '').split(/[/\\]/);
  return names.filter((name) => !['', '.', '..'].includes(name) && !/^[a-z]:$/i.test(name)).join('/') || 'file';
}
