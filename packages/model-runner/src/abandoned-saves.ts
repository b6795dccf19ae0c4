/**
 * What saves leave behind when their process is killed: files that the engine writes beside a snapshot and would have renamed. Nobody reads
 * them, and each is as large as a snapshot.
 */
import { readdir, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** A save that has written nothing for this long has been killed. One that has not only fails, and leaves the old snapshot whole. */
const ABANDONED_AFTER_MS = 3_600_000;

/** Removes the remains of killed saves to `path`. What cannot be removed stays: the snapshot does not depend on it. */
export async function removeAbandonedSaves(path: string): Promise<void> {
  const folder = dirname(path);
  const prefix = `${basename(path)}.partial-`;
  const names = await readdir(folder).catch(() => []);
  const partials = names.filter((name) => name.startsWith(prefix) && /^[0-9a-f]{16}$/.test(name.slice(prefix.length)));
  await Promise.all(partials.map((name) => removeIfAbandoned(join(folder, name)).catch(() => {})));
}

async function removeIfAbandoned(path: string): Promise<void> {
  const { mtimeMs } = await stat(path);
  if (Date.now() - mtimeMs > ABANDONED_AFTER_MS) await unlink(path);
}
