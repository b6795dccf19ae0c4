/** The folder of models: whether it can be written, what is in it, and how much room there is. */
import { randomUUID } from 'node:crypto';
import { mkdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cacheFolder, listModels } from '@ctkvr/model-runner';
import type { CacheFacts } from './diagnosis.js';

export async function examineCache(folder: string = cacheFolder()): Promise<CacheFacts> {
  const present = await nearestFolder(folder);
  const room = await statfs(present).catch(() => null);
  const models = await listModels(folder).catch(() => []);
  return {
    folder,
    writable: await canWrite(folder),
    freeBytes: room === null ? null : room.bavail * room.bsize,
    models: models.filter(({ path }) => path !== null).map(({ name, path, sizeBytes }) => ({ name, path, sizeBytes })),
  };
}

/** Tries to write a file: permissions do not show that a file system is read-only or full. */
async function canWrite(folder: string): Promise<boolean> {
  const file = join(folder, `.doctor-${randomUUID()}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(file, 'written to see whether it can be');
    return true;
  } catch {
    return false;
  } finally {
    await rm(file, { force: true }).catch(() => {});
  }
}

async function nearestFolder(folder: string): Promise<string> {
  const found = await stat(folder).catch(() => null);
  const above = dirname(folder);
  return found !== null || above === folder ? folder : await nearestFolder(above);
}
