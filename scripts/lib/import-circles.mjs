// Who imports whom among the files of a package, and which of them go round in a circle.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** @typedef {Map<string, Set<string>>} ImportGraph a name, and the names that it imports */

/**
 * Returns the groups of names that import each other, directly or through others (strongly connected components, by Tarjan's algorithm).
 * Names in a group and groups are sorted; a name that imports only itself is no circle.
 * @param {ImportGraph} graph
 * @returns {string[][]}
 */
export function findCircles(graph) {
  /** @type {Map<string, { index: number, low: number, onStack: boolean }>} */
  const visits = new Map();
  /** @type {string[]} */
  const stack = [];
  /** @type {string[][]} */
  const circles = [];

  /** @param {string} name */
  function visit(name) {
    const mine = { index: visits.size, low: visits.size, onStack: true };
    visits.set(name, mine);
    stack.push(name);
    for (const target of graph.get(name) ?? []) {
      const theirs = visits.get(target) ?? visit(target);
      if (theirs.onStack) mine.low = Math.min(mine.low, theirs.low);
    }
    if (mine.low === mine.index) {
      const group = stack.splice(stack.indexOf(name));
      for (const member of group) /** @type {typeof mine} */ (visits.get(member)).onStack = false;
      if (group.length > 1) circles.push(group.sort());
    }
    return mine;
  }

  for (const name of graph.keys()) if (!visits.has(name)) visit(name);
  return circles.sort();
}

/**
 * Returns what each TypeScript file imports of the others by a relative path: values, types, and dynamic imports.
 * @param {readonly string[]} files absolute paths
 * @returns {ImportGraph}
 */
export function typescriptImports(files) {
  return new Map(
    files.map((file) => {
      const text = readFileSync(file, 'utf8');
      const paths = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']*)'/g)].map((match) => match[1] ?? '');
      const targets = paths.flatMap((path) =>
        ['.ts', '.tsx'].map((extension) => join(dirname(file), path.replace(/\.js$/, extension))),
      );
      return [file, new Set(targets.filter((target) => existsSync(target)))];
    }),
  );
}
