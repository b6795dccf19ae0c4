// Where the scripts find and leave things. Everything under .tools/ can be deleted: the next command makes it again.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const root = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

/** What the scripts install for themselves: pnpm, libclang, cmake, actionlint; stamps and logs. */
export const toolsDir = join(root, '.tools');

/** The Cargo workspace. */
export const rustDir = join(root, 'rust-kernels');

/** Shell lines that scripts/cargo reads before it starts cargo; written only where the system's libclang or cmake is missing. */
export const nativeEnvFile = join(toolsDir, 'native-env.sh');
