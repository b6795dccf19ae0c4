import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findCircles, typescriptImports } from './import-circles.mjs';
import { rustModuleGraphs } from './rust-modules.mjs';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ctkvr-circles-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** @param {Record<string, string>} files @returns {string[]} their absolute paths */
function write(files) {
  return Object.entries(files).map(([name, text]) => {
    const path = join(dir, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  });
}

test('circles are the groups that reach each other, and nothing else', () => {
  const graph = new Map(
    Object.entries({ a: ['b'], b: ['c'], c: ['a', 'd'], d: ['e'], e: ['d', 'f'], f: ['f'], g: ['a'] }).map(
      ([name, targets]) => [name, new Set(targets)],
    ),
  );
  expect(findCircles(graph)).toEqual([
    ['a', 'b', 'c'],
    ['d', 'e'],
  ]);
});

test('types, exports and dynamic imports are imports; packages are not', () => {
  const files = write({
    'a.ts': "import type { B } from './b.js';\nimport fs from 'node:fs';\n",
    'b.ts': "export { c } from './c.js';\n",
    'c.ts': "const a = await import('./a.js');\nimport { x } from './missing.js';\n",
  });
  expect(findCircles(typescriptImports(files))).toEqual([[...files]]);
});

test('files of components import each other like any others', () => {
  const files = write({
    'a.tsx': "import { B } from './b.js';\n",
    'b.ts': "import { A } from './a.js';\n",
  });
  expect(findCircles(typescriptImports(files))).toEqual([[...files]]);
});

test('Rust modules are followed through groups, re-exports, super and inline paths', () => {
  write({
    'lib.rs': 'mod a;\nmod b;\nmod c;\n#[cfg(test)]\nmod rows;\npub use a::{Thing, deep::Other};\n',
    'a.rs': 'mod deep;\nuse crate::{b::{self, X}, c};\n#[cfg(test)]\nmod tests {\n    use crate::rows::r;\n}\n',
    'a/deep.rs': 'use super::Thing;\n',
    'b.rs': '// use crate::c;\nuse crate::Thing;\nfn f() { super::c::g(); }\n',
    'c.rs': 'use std::fmt;\n',
    'rows.rs': 'use crate::a;\n',
  });
  const graphs = rustModuleGraphs(dir);
  expect(graphs.get('crate')).toEqual(
    new Map([
      ['a', new Set(['b', 'c'])],
      ['b', new Set(['a', 'c'])],
      ['c', new Set()],
    ]),
  );
  expect(graphs.get('crate::a')).toEqual(new Map([['deep', new Set()]]));
});
