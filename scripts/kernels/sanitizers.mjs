// What a cargo test of ctkvr-cuda needs so that the kernels, compiled for the CPU, run under a sanitizer.
import { run } from '../lib/exec.mjs';
import { SetupError } from '../lib/messages.mjs';

/** @type {Record<string, { flags: string, libraries: string[] }>} */
const sanitizers = {
  // The C++ library behind the run time: it must be there when that looks for the function that throws.
  address: { flags: 'address,undefined', libraries: ['libasan.so', 'libstdc++.so'] },
  thread: { flags: 'thread', libraries: ['libtsan.so'] },
};

/** All tests of kernels and driver but those of the shim, whose kernels have mistakes on purpose. The release profile has ggml built already. */
export const sanitizedTests = [
  ...['--locked', '--release', '-p', 'ctkvr-cuda', '--test=driver', '--test=kernels'],
  ...['--', '--skip', 'a_forgotten_barrier'],
];

/** @param {string} name `address` or `thread` @returns {Promise<NodeJS.ProcessEnv>} what to add to the environment */
export async function sanitizerEnvironment(name) {
  const chosen = sanitizers[name];
  if (!chosen) throw new SetupError(`sanitize: one of ${Object.keys(sanitizers).join(', ')}`);
  const libraries = [];
  for (const library of chosen.libraries) {
    const { stdout } = await run({ command: process.env.CXX ?? 'g++', args: [`-print-file-name=${library}`] });
    libraries.push(stdout.trim());
  }
  return {
    CTKVR_STAND_IN_SANITIZE: chosen.flags,
    // Only of the tests' own processes: cargo and rustc run without.
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER: `env LD_PRELOAD=${libraries.join(':')}`,
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: `env LD_PRELOAD=${libraries.join(':')}`,
    ASAN_OPTIONS: 'detect_leaks=0',
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
    // Rust's own synchronisation is not seen: only what happens in kernels counts.
    TSAN_OPTIONS: 'ignore_noninstrumented_modules=1',
  };
}
