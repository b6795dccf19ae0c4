/**
 * Fetches node-llama-cpp and its prebuilt CPU binary into the cache, once. It is no dependency of this project, so
 * it is in no package.json here, and only benchmarks download it. Install scripts are not run; the binary is a plain package.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { CtkvrError } from '@ctkvr/core';
import { cacheFolder, isComplete, withFileLock } from '@ctkvr/model-runner';

export const PEER_VERSION = '3.22.1';

/** Packages with the CPU binary, by `platform-arch` of Node. */
const binaryPackages: Readonly<Record<string, string>> = {
  'linux-x64': '@node-llama-cpp/linux-x64',
  'linux-arm64': '@node-llama-cpp/linux-arm64',
  'darwin-x64': '@node-llama-cpp/mac-x64',
  'darwin-arm64': '@node-llama-cpp/mac-arm64-metal',
  'win32-x64': '@node-llama-cpp/win-x64',
  'win32-arm64': '@node-llama-cpp/win-arm64',
};

/**
 * Returns the path of the peer's entry module.
 * @throws {CtkvrError} CTKVR_DOWNLOAD_FAILED when npm fails or has no binary for this platform.
 */
export async function installPeer({ cacheDir = cacheFolder() }: { cacheDir?: string } = {}): Promise<string> {
  const folder = path.join(cacheDir, 'peers', `node-llama-cpp-${PEER_VERSION}`);
  const entry = path.join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
  if (await isComplete(entry, undefined)) return entry;
  await withFileLock(folder, {}, async () => {
    if (!(await isComplete(entry, undefined))) await install(folder);
  });
  return entry;
}

/** Installs beside `folder` and renames, so that a broken installation is never taken for a whole one. */
async function install(folder: string): Promise<void> {
  const binary = binaryPackages[`${process.platform}-${process.arch}`];
  if (binary === undefined) {
    throw new CtkvrError(
      'CTKVR_DOWNLOAD_FAILED',
      `node-llama-cpp has no prebuilt binary for ${process.platform} ${process.arch}: run with --no-peer`,
    );
  }
  await mkdir(path.dirname(folder), { recursive: true });
  const partial = await mkdtemp(`${folder}.part-`);
  try {
    await writeFile(path.join(partial, 'package.json'), '{ "private": true }\n');
    const packages = [`node-llama-cpp@${PEER_VERSION}`, `${binary}@${PEER_VERSION}`];
    const flags = ['--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];
    await promisify(execFile)('npm', ['install', ...flags, ...packages], {
      cwd: partial,
      shell: process.platform === 'win32', // npm is a .cmd file there
    });
    await rm(folder, { recursive: true, force: true });
    await rename(partial, folder);
  } catch (cause) {
    await rm(partial, { recursive: true, force: true });
    const reason = (cause as { stderr?: string }).stderr?.trim() || String(cause);
    throw new CtkvrError(
      'CTKVR_DOWNLOAD_FAILED',
      `node-llama-cpp ${PEER_VERSION} could not be installed with npm (${reason}): check the network, or run with --no-peer`,
      { cause },
    );
  }
}
