#!/usr/bin/env node
/**
 * Builds the native binary and puts it at packages/native/ctkvr.<triple>.node, where the loader looks first in a checkout.
 *
 *   node scripts/build-native.mjs             this machine's instruction set, ggml linked in (development)
 *   node scripts/build-native.mjs --shipped   all x86 variants of ggml as loadable libraries, into npm/<triple>/
 *
 * Plain cargo, not the napi command line tool: its JavaScript loader and declarations are not used here (both are written by hand and
 * are the seam), and scripts/cargo must set the C flags in any case. What remains is one copy. The copy is made beside the target and
 * renamed, so that a process that has the old file mapped keeps it.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));
const root = dirname(dirname(packageRoot));
const shipped = process.argv.includes('--shipped');
const triple = currentTriple();

const features = shipped ? ['--features', 'dynamic-backends'] : [];
const build = spawnSync(join(root, 'scripts', 'cargo'), ['build', '--release', '-p', 'ctkvr-napi', ...features], {
  stdio: 'inherit',
});
if (build.status !== 0) {
  process.stderr.write('build-native: cargo failed; its messages are above\n');
  process.exit(build.status ?? 1);
}

const targetDir = process.env.CARGO_TARGET_DIR ?? join(root, 'rust-kernels', 'target');
const outDir = shipped ? join(packageRoot, 'npm', triple) : packageRoot;
mkdirSync(outDir, { recursive: true });
const library = process.platform === 'darwin' ? 'libctkvr_napi.dylib' : 'libctkvr_napi.so';
install(join(targetDir, 'release', library), join(outDir, `ctkvr.${triple}.node`));
if (shipped)
  for (const backend of backendLibraries(join(targetDir, 'release'))) install(backend, join(outDir, basename(backend)));

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

/** ggml's loadable CPU variants, which the build script of the ggml crate leaves beside the binary. */
function backendLibraries(dir) {
  return readdirSync(dir)
    .filter((name) => /^lib(ggml|llama).*\.(so|dylib)/.test(name))
    .map((name) => join(dir, name));
}

/** The same rule as src/platform-triple.ts, which a plain script cannot import. */
function currentTriple() {
  const base = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return base;
  return `${base}-${process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`;
}
