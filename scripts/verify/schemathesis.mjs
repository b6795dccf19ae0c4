// Schemathesis, as wheels in .tools/schemathesis: fetched once, when the server is tested against its OpenAPI document.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digest, exists } from '../lib/digest.mjs';
import { findProgram, run } from '../lib/exec.mjs';
import { root, toolsDir } from '../lib/paths.mjs';
import { installPinned } from '../lib/pinned-wheels.mjs';
import { ensure } from '../lib/steps.mjs';

const requirements = join(root, 'scripts/schemathesis.txt');
const folder = join(toolsDir, 'schemathesis');
const NEEDED = 'import sys; sys.exit(sys.version_info < (3, 11))';

/** The folder of its wheels, or null where no Python can run it. */
export async function provideSchemathesis() {
  const python = findProgram('python3');
  if (!python || (await run({ command: python, args: ['-c', NEEDED] })).code !== 0) return null;
  await ensure({
    stamp: join(toolsDir, 'stamps/schemathesis'),
    digest: () => digest({ files: [requirements, fileURLToPath(import.meta.url)] }),
    isPresent: () => exists(join(folder, 'schemathesis')),
    run: () =>
      installPinned({
        name: 'schemathesis',
        title: 'installing Schemathesis into .tools (wheels, no root needed)',
        python,
        folder,
        requirements,
      }),
  });
  return folder;
}
