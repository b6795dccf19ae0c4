// The native binary (rust-kernels/crates/ctkvr-napi), built for this machine's own instruction set and put where packages/native looks.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { digest, filesBelow } from '../lib/digest.mjs';
import { runLogged } from '../lib/exec.mjs';
import { root, rustDir, toolsDir } from '../lib/paths.mjs';
import { pnpm } from './packages.mjs';

/** Compiled kernels that the build puts into the binary. */
const cudaKernels = process.env.CTKVR_CUDA_KERNELS ?? '';
const packageDir = join(root, 'packages/native');

/** @type {import('../lib/steps.mjs').Step} */
export const buildNative = {
  stamp: join(toolsDir, 'stamps/native-binary'),
  digest: () =>
    digest({
      files: [
        ...filesBelow(
          rustDir,
          (path) => /\.(rs|toml|lock|c|cc|cpp|h|cu)$/.test(path) && !/\/(tests|examples|benches)\//.test(path),
        ),
        join(root, 'scripts/cargo'),
        join(packageDir, 'package.json'),
        join(packageDir, 'scripts/build-native.mjs'),
        ...(existsSync(cudaKernels) ? filesBelow(cudaKernels) : []),
      ],
      values: [cpuId(), process.env.CFLAGS ?? '', process.env.CXXFLAGS ?? '', process.env.RUSTFLAGS ?? ''],
    }),
  isPresent: () => readdirSync(packageDir).some((name) => name.endsWith('.node')),
  run: () =>
    runLogged({
      name: 'native-binary',
      title: 'building the native engine (some minutes the first time)',
      ...pnpm(['--filter', '@ctkvr/native', 'run', 'build:native']),
    }),
};

/** Names this machine's instruction set: ggml is built with -march=native. @returns {string} */
export function cpuId() {
  return spawnSync('bash', [join(root, 'scripts/cpu-id')], { encoding: 'utf8' }).stdout;
}
