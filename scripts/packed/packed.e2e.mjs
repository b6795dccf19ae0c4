// What a user of one package does: its packed form, with the packages it depends on and nothing else, installed by plain npm into an
// empty project without a network, must type-check and run the example of its own README. @ctkvr/native is there only where it is said.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import ts from 'typescript';
import { root } from '../lib/paths.mjs';
import { pnpm } from '../setup/packages.mjs';

const alone = ['core', 'rope-similarity', 'centroid-index', 'token-refiner', 'scheduler'];
const work = mkdtempSync(join(tmpdir(), 'ctkvr-packed-'));
after(() => rmSync(work, { recursive: true }));

const tarballs = join(work, 'tarballs');
const packed = [...alone, 'native'];
const { args, command } = pnpm([...packed.flatMap((name) => ['--filter', `@ctkvr/${name}`]), '--recursive', 'pack']);
run(command, [...args, '--pack-destination', tarballs], root);

for (const name of alone) {
  test(`@ctkvr/${name} alone runs its README example`, () => {
    const code = readmeExample(name);
    const dir = install(name, [name, ...imports(code)]);
    assert.ok(!readdirSync(join(dir, 'node_modules/@ctkvr')).includes('native'));
    writeFileSync(join(dir, 'example.mts'), code);
    typeCheck(dir);
    runCode(dir, code);
  });
}

const binary = readdirSync(join(root, 'packages/native')).find((file) => /^ctkvr\..*\.node$/.test(file)) ?? '';
const withBinary = { CTKVR_NATIVE_PATH: join(root, 'packages/native', binary) };

test('@ctkvr/native, with a binary, runs its README example', () => {
  const code = readmeExample('native');
  const dir = install('native', ['native']);
  writeFileSync(join(dir, 'example.mts'), code);
  typeCheck(dir);
  runCode(dir, code, withBinary);
});

test('@ctkvr/native without a binary says what was tried', () => {
  const dir = install('no-binary', ['native']);
  const code = "import { loadBinding } from '@ctkvr/native'; try { loadBinding(); } catch (e) { console.log(e.code); }";
  assert.match(runCode(dir, code), /^CTKVR_NATIVE_UNAVAILABLE$/m);
});

test('examples/native-index.mjs builds and refines natively', () => {
  const code = readFileSync(join(root, 'examples/native-index.mjs'), 'utf8');
  const dir = install('native-index', imports(code));
  assert.match(runCode(dir, code, withBinary), /^native index, native refiner: \d+ bytes, mass off by 0\.0\d+$/m);
});

test('require() gives what import gives, where Node can require modules', () => {
  const dir = install('required', packed);
  const code = packed.map((name) => `assert.ok(Object.keys(require('@ctkvr/${name}')).length > 0);`).join('\n');
  writeFileSync(join(dir, 'required.cjs'), `const assert = require('node:assert');\n${code}`);
  if (/** @type {{ require_module?: boolean }} */ (process.features).require_module) {
    run(process.execPath, ['required.cjs'], dir);
  } else {
    const { stderr } = spawnSync(process.execPath, ['required.cjs'], { cwd: dir, encoding: 'utf8' });
    assert.match(stderr, /ERR_REQUIRE_ESM/);
  }
});

/** @param {string} name @returns {string} */
function readmeExample(name) {
  const text = readFileSync(join(root, 'packages', name, 'README.md'), 'utf8');
  return /```ts\n([\s\S]*?)```/.exec(text)?.[1] ?? assert.fail(`packages/${name}/README.md has no ts block`);
}

/** Names, without the scope, of the packages of ours that the code imports. @param {string} code */
function imports(code) {
  return [...code.matchAll(/from '@ctkvr\/([^']+)'/g)].map((match) => /** @type {string} */ (match[1]));
}

/** The packages and what they depend on. @param {string[]} names @returns {string[]} */
function closure(names) {
  const below = names.flatMap((name) => {
    const { dependencies = {} } = JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8'));
    return closure(Object.keys(dependencies).map((key) => key.replace('@ctkvr/', '')));
  });
  return [...new Set([...names, ...below])];
}

/** A new project that has these packages and those they depend on. @param {string} project @param {string[]} names */
function install(project, names) {
  const dir = join(work, project);
  mkdirSync(dir);
  const files = closure(names).map((name) => {
    const file = readdirSync(tarballs).find((tarball) => new RegExp(`^ctkvr-${name}-\\d.*\\.tgz$`).test(tarball));
    return [`@ctkvr/${name}`, `file:${join(tarballs, file ?? assert.fail(`${name} was not packed`))}`];
  });
  const manifest = { private: true, type: 'module', dependencies: Object.fromEntries(files) };
  writeFileSync(join(dir, 'package.json'), JSON.stringify(manifest));
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts'], dir);
  return dir;
}

/** example.mts against the packed declarations, as Node resolves them. @param {string} dir */
function typeCheck(dir) {
  const options = [
    '--strict',
    '--noEmit',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    '--lib',
    'es2022,esnext.disposable,dom',
  ];
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options, 'example.mts'], dir);
}

/** @param {string} dir @param {string} code TypeScript or JavaScript @param {NodeJS.ProcessEnv} [env] @returns {string} its output */
function runCode(dir, code, env = {}) {
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
  writeFileSync(join(dir, 'example.mjs'), ts.transpileModule(code, { compilerOptions }).outputText);
  return run(process.execPath, ['example.mjs'], dir, env);
}

/** @param {string} command @param {string[]} args @param {string} cwd @param {NodeJS.ProcessEnv} [env] @returns {string} */
function run(command, args, cwd, env = {}) {
  const { CTKVR_NATIVE_PATH: _, ...inherited } = process.env;
  const options = { cwd, env: { ...inherited, ...env }, encoding: /** @type {const} */ ('utf8'), timeout: 120_000 };
  const { status, stdout, stderr } = spawnSync(command, args, options);
  assert.equal(status, 0, `${command} ${args.join(' ')} in ${cwd}\n${stdout}\n${stderr}`);
  return stdout;
}
