#!/usr/bin/env node
/**
 * Builds the native binary and puts it at packages/native/ctkvr.<triple>.node, where the loader looks first in a checkout.
 *
 *   node scripts/build-native.mjs             this machine's instruction set, ggml linked in (development)
 *   node scripts/build-native.mjs --shipped   all x86 variants of ggml as loadable libraries, into npm/<triple>/
 *
 * Plain cargo, not the napi command line tool: its JavaScript loader and declarations are not used here (both are written by hand and
 * are the seam), and scripts/cargo must set the C flags in any case. Link-time optimization takes a minute and reads prompts a tenth
 * faster. What remains is one copy. The copy is made beside the target and renamed, so that a process that has the old file mapped
 * keeps it.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));
const root = dirname(dirname(packageRoot));
const shipped = process.argv.includes('--shipped');
const triple = currentTriple();

// Of the shipped build cargo also says, as JSON on its standard output, where ggml's libraries are.
const options = shipped ? ['--features', 'dynamic-backends', '--message-format=json-render-diagnostics'] : [];
const build = spawnSync(
  join(root, 'scripts', 'cargo'),
  ['rustc', '--release', '-p', 'ctkvr-napi', ...options, '--', '-Clto=thin'],
  {
    stdio: ['inherit', shipped ? 'pipe' : 'inherit', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  },
);
if (build.status !== 0) {
  process.stderr.write('build-native: cargo failed; its messages are above\n');
  process.exit(build.status ?? 1);
}

const targetDir = process.env.CARGO_TARGET_DIR ?? join(root, 'rust-kernels', 'target');
const outDir = shipped ? join(packageRoot, 'npm', triple) : packageRoot;
mkdirSync(outDir, { recursive: true });
const library = process.platform === 'darwin' ? 'libctkvr_napi.dylib' : 'libctkvr_napi.so';
install(join(targetDir, 'release', library), join(outDir, `ctkvr.${triple}.node`));
if (shipped) for (const path of ggmlLibraries(build.stdout)) install(path, join(outDir, basename(path)));

function install(from, to) {
  if (!existsSync(from)) {
    process.stderr.write(`build-native: cargo made no ${from}\n`);
    process.exit(1);
  }
  const partial = `${to}.${process.pid}.partial`;
  copyFileSync(from, partial);
  renameSync(partial, to);
  process.stderr.write(`build-native: ${to}\n`);
}

/**
 * ggml's own libraries, by the names the binary asks for (libllama.so.0, not the links and files beside it), and its CPU variants.
 * @param {string} messages cargo's JSON lines
 * @returns {string[]} paths
 */
function ggmlLibraries(messages) {
  const outDir = messages
    .split('\n')
    .filter((line) => line.includes('"build-script-executed"') && line.includes('llama-cpp-sys-2'))
    .map((line) => JSON.parse(line).out_dir)[0];
  if (outDir === undefined) throw new Error('build-native: cargo did not say where it built ggml');
  const inFolder = (folder, pattern) =>
    readdirSync(join(outDir, folder))
      .filter((name) => pattern.test(name))
      .map((name) => join(outDir, folder, name));
  const linked = inFolder('lib', process.platform === 'darwin' ? /^lib(ggml|llama)[a-z-]*\.\d+\.dylib$/ : /\.so\.\d+$/);
  return [...linked, ...inFolder('backends', /^libggml-.*\.(so|dylib)$/)];
}

/** The same rule as src/platform-triple.ts, which a plain script cannot import. */
function currentTriple() {
  const base = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return base;
  return `${base}-${process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`;
}
