// Writes what draw.mjs draws: keys, values and queries of heads of a real model, and the text of every token. Run from the repository's folder:
//
//   node docs/pictures/dump-head.mjs model.gguf book.txt folder 12:1
//
// The last argument lists layer:KV head pairs, separated by commas. The work is that of the Rust example dump_heads, with a longer prompt.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadModel } from '../../packages/model-runner/dist/index.js';

/** Characters of the book; with this model some 4,100 tokens, just over the length from which retrieval is used. */
const BOOK_LENGTH = 17_400;
/** Queries that become centroids, and queries that ask, one after another. */
const [NUM_CENTROIDS, NUM_DECODES] = [128, 4];
/** Where the fact stands in the book, as a share of its length. */
const DEPTH = 0.4;
const FACT = ' The special magic number of the lighthouse is 186328.';
/** Tokens of the number and its full stop: they follow what is stored, and their queries ask. */
const NUM_ASKED = 7;

const [modelFile, bookPath, folderName, heads] = process.argv.slice(2);
if (heads === undefined)
  throw new Error('usage: dump-head.mjs model.gguf book.txt folder layer:kvHead[,layer:kvHead...]');
/** cargo runs in another folder. */
const [modelPath, folder] = [resolve(modelFile), resolve(folderName)];
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

const model = await loadModel(modelPath);
const book = readFileSync(bookPath, 'utf8');
const text = composeText(book);
const tokens = await model.tokenize(text);
writeFileSync(join(folder, 'text.txt'), text);
writeFileSync(join(folder, 'tokens.json'), JSON.stringify(Array.from(tokens, (token) => model.detokenize([token]))));
await model.close();
runExample();

/** The book with the fact in it, and the same sentence at its end. @param {string} book */
function composeText(book) {
  const at = book.indexOf('. ', BOOK_LENGTH * DEPTH) + 1;
  return `${book.slice(0, at)}${FACT}${book.slice(at, BOOK_LENGTH)}.${FACT}`;
}

/** Builds and runs dump_heads with other sizes and heads: a copy of the example that is there only meanwhile. */
function runExample() {
  const crates = join(root, 'rust-kernels/crates');
  const crate = readdirSync(crates).find((name) => existing(join(crates, name, 'examples'), 'dump_heads.rs'));
  if (crate === undefined) throw new Error('no crate has the example dump_heads');
  const examples = join(crates, crate, 'examples');
  const pairs = heads.split(',').map((pair) => `(${pair.replace(':', ', ')})`);
  const numTokens = tokens.length - NUM_ASKED;
  const code = readFileSync(join(examples, 'dump_heads.rs'), 'utf8')
    .replace(/const NUM_TOKENS: usize = \d+/, `const NUM_TOKENS: usize = ${numTokens}`)
    .replace(/const NUM_CENTROIDS: usize = \d+/, `const NUM_CENTROIDS: usize = ${NUM_CENTROIDS}`)
    .replace(/const NUM_DECODES: usize = \d+/, `const NUM_DECODES: usize = ${NUM_DECODES}`)
    .replace(
      /const HEADS: [^;]*; \d+\] = \[[^\]]*\]/,
      `const HEADS: [(usize, usize); ${pairs.length}] = [${pairs.join(', ')}]`,
    );
  const copy = join(examples, 'dump_long_heads.rs');
  writeFileSync(copy, code);
  try {
    const options = ['run', '--release', '-p', crate, '--example', 'dump_long_heads', '--'];
    const { status } = spawnSync(
      join(root, 'scripts/cargo'),
      [...options, modelPath, join(folder, 'text.txt'), folder],
      {
        cwd: root,
        stdio: 'inherit',
      },
    );
    if (status !== 0) throw new Error('dump_heads failed');
  } finally {
    rmSync(copy);
  }
}

/** @param {string} folder @param {string} name */
function existing(folder, name) {
  try {
    return readdirSync(folder).includes(name);
  } catch {
    return false;
  }
}
