// `node scripts/kernels/sanitize.mjs thread|address [cargo test's arguments]`: the device's tests with the kernels, compiled for the CPU, under
// ThreadSanitizer, or AddressSanitizer with UndefinedBehaviorSanitizer. Without arguments: all tests of kernels and driver.
import { run } from '../lib/exec.mjs';
import { runMain, SetupError } from '../lib/messages.mjs';
import { root } from '../lib/paths.mjs';
import { sanitizedTests, sanitizerEnvironment } from './sanitizers.mjs';

await runMain(async () => {
  const [name = '', ...args] = process.argv.slice(2);
  const { code } = await run({
    command: `${root}/scripts/cargo`,
    args: ['test', ...(args.length > 0 ? ['--release', '-p', 'ctkvr-cuda', ...args] : sanitizedTests)],
    env: { ...process.env, ...(await sanitizerEnvironment(name)) },
    onOutput: (text) => process.stdout.write(text),
  });
  if (code !== 0) throw new SetupError(`the tests failed under the sanitizer: ${name}`);
});
