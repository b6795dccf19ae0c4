/** What `ctkvr models` shows: the catalogue, and what of it and of the hub is on this disk. */
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { cacheFolder } from '@ctkvr/native';
import { modelCatalogue } from './model-catalogue.js';
import { catalogueModelPath } from './resolve-model-file.js';

export interface ListedModel {
  /** What to write after `--model`. */
  readonly name: string;
  /** null for a hub file that is in no catalogue. */
  readonly description: string | null;
  readonly license: string | null;
  /** Path in the cache, or null when it is not there. */
  readonly path: string | null;
  /** On disk, or of the download when it is not there; null when unknown. */
  readonly sizeBytes: number | null;
}

/** Returns catalogue models first, in the catalogue's order, then cached hub files by name. Reads folder entries only. */
export async function listModels(cacheDir: string = cacheFolder()): Promise<ListedModel[]> {
  const listed: ListedModel[] = [];
  for (const model of modelCatalogue) {
    const path = catalogueModelPath(model, cacheDir);
    const size = (await stat(path).catch(() => null))?.size ?? null;
    listed.push({
      name: model.name,
      description: model.description,
      license: model.license,
      path: size === null ? null : path,
      sizeBytes: size ?? model.sizeBytes,
    });
  }
  return [...listed, ...(await listHubFiles(join(cacheDir, 'models', 'hub')))];
}

async function listHubFiles(folder: string): Promise<ListedModel[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const found: ListedModel[] = [];
  for (const entry of entries) {
    if (!entry.isFile() || !entry.name.endsWith('.gguf')) continue;
    // Node before 20.12 calls it path, Node from 24 on only parentPath.
    const path = join((entry as { parentPath?: string }).parentPath ?? entry.path, entry.name);
    const [owner, repo, ...file] = relative(folder, path).split(sep);
    if (owner === undefined || repo === undefined || file.length === 0) continue;
    const { size } = await stat(path);
    found.push({ name: `${owner}/${repo}:${file.join('/')}`, description: null, license: null, path, sizeBytes: size });
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}
