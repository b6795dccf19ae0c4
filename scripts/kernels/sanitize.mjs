// `node scripts/kernels/sanitize.mjs thread|address [cargo test's arguments]`: the device's tests with the kernels, compiled for the CPU, under
// ThreadSanitizer, or AddressSanitizer with UndefinedBehaviorSanitizer. Without arguments: all tests of ctkvr-cuda but those of the shim,
// whose kernels have mistakes on purpose.
import { run } from '../lib/exec.mjs';
import { runMain, SetupError } from '../lib/messages.mjs';
import { root } from '../lib/paths.mjs';

/** @type {Record<string, { flags: string, libraries: string[] }>} */
const sanitizers = {
  // The C++ library behind the run time: it must be there when that looks for the function that throws.
  address: { flags: 'address,undefined', libraries: ['libasan.so', 'libstdc++.so'] },
  thread: { flags: 'thread', libraries: ['libtsan.so'] },
};

await runMain(async () => {
  const [name = '', ...args] = process.argv.slice(2);
  const chosen = sanitizers[name];
  if (!chosen) throw new SetupError(`sanitize: one of ${Object.keys(sanitizers).join(', ')}`);
  const libraries = [];
  for (const library of chosen.libraries) {
    const { stdout } = await run({ command: process.env.CXX ?? 'g++', args: [`-print-file-name=${library}`] });
    libraries.push(stdout.trim());
  }
  const what = args.length > 0 ? args : ['--', '--skip', 'a_forgotten_barrier'];
  const { code } = await run({
    command: `${root}/scripts/cargo`,
    args: ['test', '-p', 'ctkvr-cuda', ...what],
    env: {
      ...process.env,
      CTKVR_STAND_IN_SANITIZE: chosen.flags,
      // Only of the tests' own processes: cargo and rustc run without.
      CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER: `env LD_PRELOAD=${libraries.join(':')}`,
      CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: `env LD_PRELOAD=${libraries.join(':')}`,
      ASAN_OPTIONS: 'detect_leaks=0',
      UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
      // Rust's own synchronisation is not seen: only what happens in kernels counts.
      TSAN_OPTIONS: 'ignore_noninstrumented_modules=1',
    },
    onOutput: (text) => process.stdout.write(text),
  });
  if (code !== 0) throw new SetupError(`the tests failed under ${chosen.flags}`);
});
