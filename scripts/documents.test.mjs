// What must hold for the pages of the repository: links and pointers lead somewhere, and the README stays short.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { root } from './lib/paths.mjs';

const README_WORDS = 900;
const README_TABLE_ROWS = 5;

const { stdout } = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
});
const files = stdout
  .split('\0')
  .filter((name) => name !== '' && existsSync(join(root, name)))
  .map((name) => join(root, name));
const pages = files.filter((file) => file.endsWith('.md'));
const read = (/** @type {string} */ file) => readFileSync(file, 'utf8');
const readme = read(join(root, 'README.md'));

test(`the README has at most ${README_WORDS} words`, () => {
  expect(readme.split(/\s+/).filter(Boolean).length).toBeLessThanOrEqual(README_WORDS);
});

test(`the README has one table, of ${README_TABLE_ROWS} rows`, () => {
  const tables = [...readme.matchAll(/^\|.*\|\n\|[-| ]+\|\n((?:\|.*\|\n)+)/gm)];
  expect(tables.map(([, rows = '']) => rows.trim().split('\n').length)).toEqual([README_TABLE_ROWS]);
});

test('links between pages of this repository lead somewhere, to a heading where they name one', () => {
  /** @type {string[]} */
  const broken = [];
  for (const page of pages) {
    for (const [, target = ''] of read(page).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?:|mailto:)/.test(target)) continue;
      const [path = '', heading] = target.split('#');
      const file = path === '' ? page : resolve(dirname(page), path);
      const found = existsSync(file) && (heading === undefined || headings(file).includes(heading));
      if (!found) broken.push(`${relative(root, page)}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});

test('pages that code and prose name as docs/... exist', () => {
  /** @type {string[]} */
  const broken = [];
  for (const file of files.filter((name) => /\.(md|ts|mjs|rs|toml|ya?ml)$/.test(name) && !name.endsWith('.test.mjs'))) {
    for (const [name] of read(file).matchAll(/\bdocs\/(?:design|decisions|guide)\/[\w./-]*\.md\b/g)) {
      if (!existsSync(join(root, name))) broken.push(`${relative(root, file)}: ${name}`);
    }
  }
  expect(broken).toEqual([]);
});

test('sections that comments point at, as in "design 2.1", are headings of docs/design/retrieval.md', () => {
  const numbers = [...read(join(root, 'docs/design/retrieval.md')).matchAll(/^#+ (\d(?:\.\d)?) /gm)].map(([, n]) => n);
  const pointer = /\b(?:design|CTkvr|retrieval\.md),? (?:sections? )?(\d\.\d)(?:(?: to | and |, )(\d\.\d))?/g;
  /** @type {string[]} */
  const broken = [];
  for (const file of files.filter((name) => /\.(ts|mjs|rs)$/.test(name) && !name.endsWith('documents.test.mjs'))) {
    for (const [whole, ...sections] of read(file).matchAll(pointer)) {
      if (sections.some((section) => section !== undefined && !numbers.includes(section)))
        broken.push(`${relative(root, file)}: ${whole}`);
    }
  }
  expect(broken).toEqual([]);
});

/** The names by which a page's headings can be linked to, as GitHub makes them. @param {string} file */
function headings(file) {
  return [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, words = '']) =>
    words
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
