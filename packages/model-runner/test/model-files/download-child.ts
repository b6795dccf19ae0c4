/** A process of its own for the tests of two processes. Arguments: download <url> <destination> <sha256> | hold <path>. */
import { downloadVerified, sha256, withFileLock } from '../../src/model-files/index.js';

const [command, first, second, third] = process.argv.slice(2) as [string, string, string, string];
if (command === 'hold') {
  await withFileLock(first, {}, async () => {
    process.stdout.write('held\n');
    await new Promise((resolve) => setTimeout(resolve, 3_600_000));
  });
} else {
  const phases = new Set<string>();
  await downloadVerified({
    url: first,
    destination: second,
    hash: sha256(third),
    onProgress: ({ phase }) => phases.add(phase),
  });
  process.stdout.write(JSON.stringify([...phases]));
}
