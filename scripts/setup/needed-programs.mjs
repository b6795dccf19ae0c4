// Programs that must be on the machine, and what to install when one is not. All of them are named at once, not one a run.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { findProgram, run } from '../lib/exec.mjs';
import { SetupError } from '../lib/messages.mjs';

const MIN_NODE_MAJOR = 20;
/** Keep equal to rust-version in rust-kernels/Cargo.toml (scripts/repository.test.mjs compares them). */
export const MIN_RUST = '1.89';

/** @throws {SetupError} when this Node.js is too old or npm is missing */
export function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < MIN_NODE_MAJOR) {
    throw new SetupError(
      `Node.js ${MIN_NODE_MAJOR} or newer is needed, this is ${process.versions.node} (https://nodejs.org)`,
    );
  }
  if (!findProgram('npm'))
    throw new SetupError('npm is not on PATH; it comes with Node.js (Debian: apt-get install npm)');
}

/** Puts rustup's folder on PATH where a shell that is no login shell left it out. */
export function addCargoToPath() {
  const bin = join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'bin');
  if (!findProgram('cargo') && existsSync(join(bin, 'cargo')))
    process.env.PATH = `${process.env.PATH}${delimiter}${bin}`;
}

/** @throws {SetupError} naming every program of the native build that is missing, and how to install each */
export async function checkNativePrograms() {
  addCargoToPath();
  /** @type {string[]} */
  const missing = [];
  if (!(process.env.CXX || findProgram('c++') || findProgram('g++') || findProgram('clang++'))) {
    missing.push(
      'a C++ compiler (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)',
    );
  }
  if (!(findProgram('make') || findProgram('gmake') || process.env.CMAKE_GENERATOR)) {
    missing.push(
      'make (Debian, Ubuntu: apt-get install make; Fedora: dnf install make; macOS: xcode-select --install)',
    );
  }
  const cargo = await cargoVersion();
  if (cargo === null) missing.push(`cargo (Rust ${MIN_RUST} or newer; install it with rustup, https://rustup.rs)`);
  else if (isOlder(cargo, MIN_RUST)) {
    missing.push(
      `Rust ${MIN_RUST} or newer, this is ${cargo} (rustup update stable; a distribution's own is often too old: https://rustup.rs)`,
    );
  }
  if (missing.length > 0) {
    throw new SetupError(
      `the native engine cannot be built here. Missing:\n${missing.map((item) => `  - ${item}`).join('\n')}`,
    );
  }
}

/** @returns {Promise<string | null>} such as 1.95.0 */
async function cargoVersion() {
  if (!findProgram('cargo')) return null;
  const { output } = await run({ command: 'cargo', args: ['--version'] });
  return /^cargo (\d+\.\d+\.\d+)/m.exec(output)?.[1] ?? null;
}

/** Whether version `a` comes before `b`, by major and minor. @param {string} a @param {string} b */
export function isOlder(a, b) {
  const [aMajor = 0, aMinor = 0] = a.split('.').map(Number);
  const [bMajor = 0, bMinor = 0] = b.split('.').map(Number);
  return aMajor < bMajor || (aMajor === bMajor && aMinor < bMinor);
}
