// Which modules of a Rust crate use which of their siblings: read from the text, well enough for a rule.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { filesBelow } from './digest.mjs';

/** @typedef {import('./import-circles.mjs').ImportGraph} ImportGraph */

/**
 * Returns, for a crate's root module and each module that has modules below it, which of the modules directly below use which others. A
 * module counts with all that is below it. That a module uses its own parent is not counted, nor what its tests use.
 * @param {string} srcDir absolute path of the crate's src
 * @returns {Map<string, ImportGraph>} by the parent's path: 'crate', 'crate::index'
 */
export function rustModuleGraphs(srcDir) {
  /** @type {Map<string, ImportGraph>} */
  const graphs = new Map();
  for (const parent of parentsBelow(srcDir, [])) {
    const dir = join(srcDir, ...parent);
    const onlyForTests = testModulesOf(dir);
    const children = childrenOf(dir).filter((name) => !onlyForTests.includes(name));
    /** @type {ImportGraph} */
    const graph = new Map();
    for (const child of children) {
      const targets = filesOfModule(dir, child).flatMap((file) =>
        usedPaths(readFileSync(file, 'utf8'), modulePath(srcDir, file)).map((path) => siblingIn(path, parent, srcDir)),
      );
      graph.set(child, new Set(targets.filter((name) => name !== child && children.includes(name))));
    }
    graphs.set(['crate', ...parent].join('::'), graph);
  }
  return graphs;
}

/** @param {string} srcDir @param {string[]} parent @returns {string[][]} */
function parentsBelow(srcDir, parent) {
  const below = readdirSync(join(srcDir, ...parent), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [parent, ...below.flatMap(({ name }) => parentsBelow(srcDir, [...parent, name]))];
}

/** @param {string} dir */
function childrenOf(dir) {
  const names = readdirSync(dir, { withFileTypes: true }).map((entry) =>
    entry.isDirectory() ? entry.name : basename(entry.name, '.rs'),
  );
  return [...new Set(names)].filter((name) => !['lib', 'main', 'mod', 'tests'].includes(name));
}

/** Names of the modules below `dir` that exist in test builds only. @param {string} dir */
function testModulesOf(dir) {
  return [...rootText(dir).matchAll(/#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod (\w+);/g)].map(
    ([, name]) => name ?? '',
  );
}

/** The text of the module whose folder is `dir`. @param {string} dir */
function rootText(dir) {
  const file = [join(dir, 'lib.rs'), join(dir, 'mod.rs'), `${dir}.rs`].find((path) => existsSync(path));
  return file === undefined ? '' : readFileSync(file, 'utf8');
}

/** @param {string} dir @param {string} name */
function filesOfModule(dir, name) {
  const file = join(dir, `${name}.rs`);
  const folder = join(dir, name);
  const below = existsSync(folder) ? filesBelow(folder, (path) => path.endsWith('.rs')) : [];
  return [...(existsSync(file) ? [file] : []), ...below].filter((path) => basename(path) !== 'tests.rs');
}

/** Segments of the module that a file holds, without `crate`. @param {string} srcDir @param {string} file */
function modulePath(srcDir, file) {
  const segments = file.slice(srcDir.length + 1, -'.rs'.length).split('/');
  return ['lib', 'mod'].includes(segments.at(-1) ?? '') ? segments.slice(0, -1) : segments;
}

/**
 * Returns every path in a module's text that begins with crate, super or self, as segments from the crate's root.
 * @param {string} text @param {string[]} module
 */
function usedPaths(text, module) {
  const code = text.replace(/\/\/.*$/gm, '').replace(/^#\[cfg\(test\)\]\s*mod \w+ \{[\s\S]*?^\}/gm, '');
  const uses = [...code.matchAll(/\buse\s+([^;]+);/g)].flatMap((match) =>
    expanded((match[1] ?? '').replace(/\s/g, '')),
  );
  const inline = code.replace(/\buse\s+[^;]+;/g, '').match(/\b(?:crate|super|self)(?:::\w+)+/g) ?? [];
  return [...uses, ...inline].map((path) => fromRoot(path.split('::'), module)).filter((path) => path !== null);
}

/** `a::{b,c::{d,e}}` as `a::b`, `a::c::d`, `a::c::e`. @param {string} tree @returns {string[]} */
function expanded(tree) {
  const open = tree.indexOf('{');
  if (open < 0) return [tree];
  const head = tree.slice(0, open);
  /** @type {string[]} */
  const parts = [''];
  let depth = 0;
  for (const letter of tree.slice(open + 1, tree.lastIndexOf('}'))) {
    if (letter === ',' && depth === 0) parts.push('');
    else parts.push(`${parts.pop()}${letter}`);
    depth += letter === '{' ? 1 : letter === '}' ? -1 : 0;
  }
  return parts.filter((part) => part !== '').flatMap((part) => expanded(part).map((path) => head + path));
}

/** @param {string[]} path @param {string[]} module */
function fromRoot(path, module) {
  const first = path[0];
  if (first === 'crate') return path.slice(1);
  if (first !== 'super' && first !== 'self') return null;
  const numUp = path.filter((segment) => segment === 'super').length;
  return [...module.slice(0, module.length - numUp), ...path.filter((s) => s !== 'super' && s !== 'self')];
}

/**
 * Returns the name below `parent` that a path leads into, also where it names an item that `parent` re-exports from there; '' for others.
 * @param {string[]} path @param {string[]} parent @param {string} srcDir
 */
function siblingIn(path, parent, srcDir) {
  if (parent.some((segment, i) => path[i] !== segment)) return '';
  const name = path[parent.length] ?? '';
  return reExports(parent, srcDir).get(name) ?? name;
}

/** @type {Map<string, Map<string, string>>} */
const reExportsByModule = new Map();

/** Which module each name comes from that `parent` re-exports. @param {string[]} parent @param {string} srcDir */
function reExports(parent, srcDir) {
  const key = join(srcDir, ...parent);
  const known = reExportsByModule.get(key);
  if (known !== undefined) return known;
  const names = [...rootText(key).matchAll(/\bpub(?:\([a-z]+\))?\s+use\s+([^;]+);/g)].flatMap((match) =>
    expanded((match[1] ?? '').replace(/\s/g, '')).map((path) => path.replace(/^(self|crate)::/, '').split('::')),
  );
  const found = new Map(names.map((path) => [path.at(-1) ?? '', path[0] ?? '']));
  reExportsByModule.set(key, found);
  return found;
}
