// What must hold for the repository as a whole: who may depend on whom, that package entries exist, that pins and pages agree.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { filesBelow } from './lib/digest.mjs';
import { findCircles, typescriptImports } from './lib/import-circles.mjs';
import { root } from './lib/paths.mjs';
import { rustModuleGraphs } from './lib/rust-modules.mjs';
import { MIN_RUST } from './setup/needed-programs.mjs';
import { workspacePackages } from './setup/typescript.mjs';

/** ARCHITECTURE.md, "Crates and packages": a package may use packages of lower levels only. */
const level = /** @type {Record<string, number>} */ ({
  core: 0,
  'rope-similarity': 1,
  'centroid-index': 1,
  'token-refiner': 1,
  testkit: 2,
  native: 2,
  scheduler: 3,
  'model-runner': 4,
  page: 4,
  evaluation: 5,
  server: 5,
  benchmarks: 6,
  cli: 7,
});

const packages = workspacePackages().map((dir) => ({
  dir,
  name: basename(dir),
  json: JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')),
  sources: filesBelow(dir, (path) => /\.tsx?$/.test(path)),
}));

describe.each(packages)('$name', ({ dir, name, json, sources }) => {
  const declared = { ...json.dependencies, ...json.optionalDependencies, ...json.peerDependencies };
  const imports = sources.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(@ctkvr\/[^'/]+)(\/[^']*)?'/g)].map((match) => ({
      file: relative(root, file),
      isTest: /\.test\.ts$|\/(test|bench|golden)\//.test(file),
      target: /** @type {string} */ (match[1]),
      subpath: match[2] ?? '',
    })),
  );

  test('has a level, so that ARCHITECTURE.md and this test know it', () => {
    expect(Object.keys(level)).toContain(name);
    expect(json.name).toBe(`@ctkvr/${name}`);
  });

  test('depends on lower levels only', () => {
    for (const dependency of Object.keys(declared).filter((key) => key.startsWith('@ctkvr/'))) {
      const target = dependency.replace('@ctkvr/', '');
      // Binaries for one platform belong to native itself.
      if (target.startsWith('native-')) continue;
      expect(level[target], `${name} -> ${target}`).toBeLessThan(level[name] ?? 0);
    }
  });

  test('declares every workspace package that its sources import, and imports their entries only', () => {
    const known = { ...declared, ...json.devDependencies };
    for (const { file, isTest, target, subpath } of imports) {
      if (target === json.name || target.startsWith('@ctkvr/native-')) continue;
      expect(Object.keys(isTest ? known : declared), `${file} imports ${target}`).toContain(target);
      const entries = packages.find((other) => other.json.name === target)?.json.exports ?? {};
      expect(Object.keys(entries), `${file} imports ${target}${subpath}`).toContain(`.${subpath}`);
    }
  });

  test('has no files that import each other in a circle, types included', () => {
    const circles = findCircles(typescriptImports(sources));
    expect(circles.map((files) => files.map((file) => relative(dir, file)))).toEqual([]);
  });
});

// The page has no entries: it is files for browsers, which vite builds.
describe.each(packages.filter(({ name }) => name !== 'page'))('entries of $name', ({ dir, name, json }) => {
  test('has a source file behind every export and every command', () => {
    const built = [
      ...Object.values(json.exports ?? {}).flatMap((entry) => [entry.import, entry.types?.replace(/\.d\.ts$/, '.js')]),
      ...Object.values(json.bin ?? {}),
    ].filter((path) => typeof path === 'string');
    expect(built.length).toBeGreaterThan(0);
    for (const path of built) {
      const source = join(dir, path.replace('./dist/', './src/').replace(/\.js$/, '.ts'));
      expect(existsSync(source), `${name}: ${path} needs ${relative(root, source)}`).toBe(true);
    }
    for (const entry of Object.values(json.exports ?? {}))
      expect(existsSync(join(dir, entry['@ctkvr/source']))).toBe(true);
  });

  test('names every built entry in its tsup configuration', () => {
    const tsup = readFileSync(join(dir, 'tsup.config.ts'), 'utf8') + readFileSync(join(root, 'tsup.base.ts'), 'utf8');
    for (const path of Object.values(json.bin ?? {})) {
      expect(tsup).toContain(String(path).replace('./dist/', 'src/').replace(/\.js$/, '.ts'));
    }
  });
});

/** From the lowest to the highest. */
const crates = [
  'ctkvr-threads',
  'ctkvr-kernels',
  'ctkvr-core',
  'ctkvr-baselines',
  'ctkvr-model',
  'ctkvr-engine',
  'ctkvr-engine-suite',
  'ctkvr-reference',
  'ctkvr-cpu',
  'ctkvr-cuda',
  'ctkvr-gpu-run',
  'ctkvr-napi',
];

test('Rust crates depend on lower crates only', () => {
  crates.forEach((crate, index) => {
    const manifest = readFileSync(join(root, 'rust-kernels/crates', crate, 'Cargo.toml'), 'utf8');
    for (const higher of crates.slice(index + 1))
      expect(manifest, `${crate} -> ${higher}`).not.toMatch(new RegExp(`^${higher}\\b`, 'm'));
  });
});

/** All but the kernels: a file of theirs adds methods to the one table, and the table has that file's functions. */
const cratesWithoutCircles = crates.filter((crate) => crate !== 'ctkvr-kernels');

test.each(cratesWithoutCircles)('the modules of %s do not use each other in a circle', (crate) => {
  const graphs = rustModuleGraphs(join(root, 'rust-kernels/crates', crate, 'src'));
  const circles = [...graphs].flatMap(([parent, graph]) => findCircles(graph).map((names) => ({ parent, names })));
  expect(circles).toEqual([]);
});

test('the least Rust version is the same in Cargo.toml and in the setup', () => {
  expect(readFileSync(join(root, 'rust-kernels/Cargo.toml'), 'utf8')).toContain(`rust-version = "${MIN_RUST}"`);
});

const isText = (/** @type {string} */ path) =>
  /\.(md|ts|mjs|rs|toml|json|ya?ml|sh|py|cpp)$/.test(path) || /scripts\/[a-z-]+$/.test(path);
const texts = ['packages', 'apps', 'rust-kernels', 'scripts', 'docs', '.github'].flatMap((dir) =>
  filesBelow(join(root, dir), isText),
);

test('docs/guide/environment.md lists every CTKVR_ variable of the code, and none that the code does not know', () => {
  const names = (/** @type {string} */ text) => text.match(/\bCTKVR_[A-Z_]+[A-Z]\b/g) ?? [];
  const page = new Set(names(readFileSync(join(root, 'docs/guide/environment.md'), 'utf8')));
  const errorCodes = new Set(names(readFileSync(join(root, 'packages/core/src/errors.ts'), 'utf8')));
  const code = texts.filter((path) => !path.endsWith('.md') && !path.endsWith('repository.test.mjs'));
  const variables = new Set(
    code.flatMap((path) => names(readFileSync(path, 'utf8'))).filter((name) => !errorCodes.has(name)),
  );
  expect([...page].sort()).toEqual([...variables].sort());
});
