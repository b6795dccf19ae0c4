/** Takes one file out of a zip archive (a Python wheel is one), checked by its hash. Source of the format's reading: yauzl. */
import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { CtkvrError, checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import yauzl from 'yauzl';
import { type DownloadCallbacks, downloadCallbackChecks, progressMeter } from './download-progress.js';
import { cacheFileError, checkFreeSpace, throwIfAborted } from './file-errors.js';
import type { ExpectedHash } from './hash-file.js';

export interface ZipExtraction extends DownloadCallbacks {
  readonly archive: string;
  /** Chooses the entry by its path in the archive; the first match is taken. */
  readonly matches: (entryName: string) => boolean;
  /** Absolute path of the file to make; appears only when complete and checked. */
  readonly destination: string;
  readonly hash: ExpectedHash;
}

const inputChecks: OptionChecks<ZipExtraction> = {
  ...downloadCallbackChecks,
  archive: takes.text,
  matches: takes.func,
  destination: takes.text,
  hash: takes.object,
};

/**
 * Resolves once `destination` holds the entry.
 * @throws {CtkvrError} CTKVR_CHECKSUM_MISMATCH (no such entry, a damaged archive, or other bytes), CTKVR_DISK_FULL, CTKVR_FILE_UNREADABLE, CTKVR_ABORTED.
 */
export async function extractZipEntry(request: ZipExtraction): Promise<void> {
  checkOptions('extractZipEntry', request, inputChecks);
  const { archive, destination, hash, signal } = request;
  const partial = `${destination}.extracting`;
  const zip = await openZip(archive);
  try {
    const entry = await findEntry(zip, request);
    await checkFreeSpace(dirname(destination), entry.uncompressedSize);
    const actual = await writeEntry({ request, zip, entry, partial });
    if (actual !== hash.hex) {
      throw new CtkvrError(
        'CTKVR_CHECKSUM_MISMATCH',
        `${entry.fileName} in ${archive} is not the expected file (${hash.algorithm} ${actual}, expected ${hash.hex})`,
        {
          fields: { archive, expected: hash.hex, actual },
        },
      );
    }
    throwIfAborted(signal, `unpacking ${archive}`);
    await rename(partial, destination);
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {});
    throw cacheFileError(destination, cause);
  } finally {
    zip.close();
  }
}

function openZip(archive: string): Promise<yauzl.ZipFile> {
  return new Promise((resolve, reject) => {
    yauzl.open(archive, { lazyEntries: true, autoClose: false }, (error, zip) =>
      error ? reject(damaged(archive, error)) : resolve(zip),
    );
  });
}

function findEntry(zip: yauzl.ZipFile, request: ZipExtraction): Promise<yauzl.Entry> {
  return new Promise((resolve, reject) => {
    zip.on('entry', (entry: yauzl.Entry) => (request.matches(entry.fileName) ? resolve(entry) : zip.readEntry()));
    zip.on('end', () => reject(damaged(request.archive, new Error('it does not hold the expected file'))));
    zip.on('error', (error: Error) => reject(damaged(request.archive, error)));
    zip.readEntry();
  });
}

/** Returns the hash of what was written. */
async function writeEntry(input: {
  request: ZipExtraction;
  zip: yauzl.ZipFile;
  entry: yauzl.Entry;
  partial: string;
}): Promise<string> {
  const { request, zip, entry, partial } = input;
  const stream = await new Promise<Readable>((resolve, reject) => {
    zip.openReadStream(entry, (error, readable) =>
      error ? reject(damaged(request.archive, error)) : resolve(readable),
    );
  });
  const digest = createHash(request.hash.algorithm);
  const meter = progressMeter(
    { phase: 'extract', name: basename(request.destination), bytesTotal: entry.uncompressedSize },
    request.onProgress,
  );
  const file = await open(partial, 'w');
  try {
    const chunks = stream.iterator() as AsyncIterableIterator<Uint8Array>;
    for (;;) {
      const next = await chunks.next().catch((error: unknown) => {
        throw damaged(request.archive, error);
      });
      if (next.done) break;
      throwIfAborted(request.signal, `unpacking ${request.archive}`);
      digest.update(next.value);
      await file.appendFile(next.value);
      meter.add(next.value.length);
    }
    meter.finish();
    await file.sync();
  } finally {
    stream.destroy();
    await file.close();
  }
  return digest.digest('hex');
}

function damaged(archive: string, cause: unknown): CtkvrError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CtkvrError('CTKVR_CHECKSUM_MISMATCH', `${archive} is damaged (${reason}): delete it and try again`, {
    fields: { archive },
    cause,
  });
}
