// libclang (bindgen reads ggml's headers with it) and cmake (builds ggml): the system's where they can be used, else wheels from the
// Python package index, unpacked into .tools/python. A wheel needs no root. What scripts/cargo must know goes to .tools/native-env.sh.
// CTKVR_NATIVE_TOOLS=wheels takes the wheels even where the system has both.
import { readdirSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digest, exists } from '../lib/digest.mjs';
import { findProgram, run } from '../lib/exec.mjs';
import { SetupError } from '../lib/messages.mjs';
import { nativeEnvFile, root, toolsDir } from '../lib/paths.mjs';
import { installPinned } from '../lib/pinned-wheels.mjs';

const requirements = join(root, 'scripts/python-tools.txt');
const pythonDir = join(toolsDir, 'python');
const wheelLibclangDir = join(pythonDir, 'clang/native');
const wheelCmakeDir = join(pythonDir, 'cmake/data/bin');

/** @type {import('../lib/steps.mjs').Step} */
export const provideNativeTools = {
  stamp: join(toolsDir, 'stamps/native-tools'),
  digest: () =>
    digest({
      files: [requirements, fileURLToPath(import.meta.url)],
      values: [process.env.CTKVR_NATIVE_TOOLS ?? '', process.env.LIBCLANG_PATH ?? '', findProgram('cmake') ?? ''],
    }),
  isPresent: () => exists(nativeEnvFile),
  async run() {
    const forced = process.env.CTKVR_NATIVE_TOOLS === 'wheels';
    const needsLibclang = forced || !(process.env.LIBCLANG_PATH || (await systemLibclangDir()));
    const needsCmake = forced || !(process.env.CMAKE || findProgram('cmake'));
    if (needsLibclang || needsCmake) await installWheels();
    writeFileSync(nativeEnvFile, await environmentLines({ needsLibclang, needsCmake }));
  },
};

async function installWheels() {
  const python = findProgram('python3') ?? findProgram('python');
  if (!python || (await run({ command: python, args: ['-m', 'pip', '--version'] })).code !== 0) {
    throw new SetupError(
      'libclang or cmake is missing, and so is Python 3 with pip to fetch them without root. Install either\n' +
        '  - libclang and cmake (Debian, Ubuntu: apt-get install libclang-dev cmake; Fedora: dnf install clang-devel cmake; macOS: brew install llvm cmake), or\n' +
        '  - Python 3 with pip (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip)',
    );
  }
  await installPinned({
    name: 'native-tools',
    title: 'installing libclang and cmake into .tools (wheels, no root needed)',
    python,
    folder: pythonDir,
    requirements,
    remedy:
      'Or install them yourself: Debian, Ubuntu: apt-get install libclang-dev cmake; macOS: brew install llvm cmake',
  });
}

/** @param {{ needsLibclang: boolean, needsCmake: boolean }} needs @returns {Promise<string>} */
async function environmentLines({ needsLibclang, needsCmake }) {
  const lines = ['# Written by scripts/setup/native-tools.mjs and read by scripts/cargo.'];
  if (needsLibclang) {
    lines.push(`export LIBCLANG_PATH=${quote(wheelLibclangDir)}`);
    // The wheel holds the library without clang's own headers (stddef.h, stdbool.h ...): the C compiler's serve as well.
    const headers = await compilerHeadersDir();
    if (headers)
      lines.push(
        `export BINDGEN_EXTRA_CLANG_ARGS="\${BINDGEN_EXTRA_CLANG_ARGS:-} -isystem ${headers.replaceAll(' ', '\\ ')}"`,
      );
  }
  if (needsCmake)
    lines.push(`export CMAKE=${quote(join(wheelCmakeDir, 'cmake'))} PATH=${quote(wheelCmakeDir)}:"$PATH"`);
  return `${lines.join('\n')}\n`;
}

/** The folder of the C compiler's own headers, or null. @returns {Promise<string | null>} */
async function compilerHeadersDir() {
  const compiler = process.env.CC ?? ['cc', 'gcc', 'clang'].find((name) => findProgram(name)) ?? 'cc';
  const gcc = (await run({ command: compiler, args: ['-print-file-name=include'] })).output.trim();
  if (exists(join(gcc, 'stddef.h'))) return gcc;
  const clang = join((await run({ command: compiler, args: ['-print-resource-dir'] })).output.trim(), 'include');
  return exists(join(clang, 'stddef.h')) ? clang : null;
}

/** The folder of a libclang that has its headers beside it, searched where bindgen searches, or null. @returns {Promise<string | null>} */
async function systemLibclangDir() {
  const fromConfig = findProgram('llvm-config')
    ? (await run({ command: 'llvm-config', args: ['--libdir'] })).output.trim()
    : '';
  const candidates = [
    fromConfig,
    '/Library/Developer/CommandLineTools/usr/lib',
    '/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib',
    ...list('/usr/lib')
      .filter((name) => name.startsWith('llvm'))
      .map((name) => join('/usr/lib', name, 'lib')),
    ...['/usr/lib64', '/usr/local/lib', '/usr/lib'],
  ];
  return candidates.find((dir) => dir !== '' && hasLibclang(dir) && hasHeaders(dir)) ?? null;
}

/** @param {string} dir */
function hasLibclang(dir) {
  return list(dir).some(
    (name) => /^libclang(-\d+)?\.(so(\.\d+)*|dylib)$/.test(name) && exists(realpathSync(join(dir, name))),
  );
}

/** @param {string} dir a folder that holds libclang: its headers are in clang/<version>/include below it */
function hasHeaders(dir) {
  return list(join(dir, 'clang')).some((version) => exists(join(dir, 'clang', version, 'include/stddef.h')));
}

/** @param {string} dir */
function list(dir) {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** Quotes for a POSIX shell. @param {string} text */
function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
