// The compiler and the disassembler, as wheels in .tools/cuda: some 90 MB, fetched once, when kernels are compiled.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digest, exists } from '../lib/digest.mjs';
import { findProgram } from '../lib/exec.mjs';
import { SetupError } from '../lib/messages.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { installPinned } from '../lib/pinned-wheels.mjs';
import { ensure } from '../lib/steps.mjs';

const requirements = join(root, 'scripts/cuda-tools.txt');
const folder = join(toolsDir, 'cuda');

/** Where they are after `provideCudaTools`. */
export const cudaTools = {
  library: join(folder, 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12'),
  headers: join(folder, 'nvidia/cuda_runtime/include'),
  disassembler: join(folder, 'nvidia/cu13/bin/nvdisasm'),
};

/** The Python that drives the compiler. @throws {SetupError} when there is none */
export function python() {
  const found = findProgram('python3') ?? findProgram('python');
  if (!found)
    throw new SetupError(
      'kernels are compiled through Python 3, which is missing (Debian: apt-get install python3-pip)',
    );
  return found;
}

export function provideCudaTools() {
  return ensure({
    stamp: join(toolsDir, 'stamps/cuda-tools'),
    digest: () => digest({ files: [requirements, fileURLToPath(import.meta.url)] }),
    isPresent: () => Object.values(cudaTools).every(exists),
    run: () =>
      installPinned({
        name: 'cuda-tools',
        title: 'installing the CUDA compiler into .tools (wheels, 90 MB, no root needed)',
        python: python(),
        folder,
        requirements,
      }),
  });
}
