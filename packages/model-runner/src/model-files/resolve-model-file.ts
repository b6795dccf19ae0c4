/** From what a user writes after `--model` to a GGUF file on this disk, downloaded when need be. */
import { access, constants, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { CtkvrError, checkOption, checkOptions, takes } from '@ctkvr/core';
import { cacheFolder } from '@ctkvr/native';
import { cachedDownloadChecks, type DownloadCallbacks, progressMeter } from './download-progress.js';
import { downloadVerified, isComplete } from './download-verified.js';
import { extractZipEntry } from './extract-zip-entry.js';
import { type HubFile, hubFileDetails, hubStatusHint, parseHubFile } from './hugging-face.js';
import { type CatalogueModel, findCatalogueModel, modelCatalogue } from './model-catalogue.js';
import { findIndexedFile } from './package-index.js';
import { withFileLock } from './with-file-lock.js';

export interface ResolveModelOptions extends DownloadCallbacks {
  /** Default: `cacheFolder()`. */
  readonly cacheDir?: string | undefined;
}

/**
 * Returns the absolute path of a model's GGUF file. `nameOrPath` is a catalogue name, `owner/repo:file` on the Hugging Face hub (unless a file of
 * that very name exists), or a path. What is not in the cache yet is downloaded there and checked.
 * @throws {CtkvrError} CTKVR_UNKNOWN_MODEL, CTKVR_FILE_NOT_FOUND, CTKVR_FILE_UNREADABLE, and what `downloadVerified` throws.
 */
export async function resolveModelFile(nameOrPath: string, options: ResolveModelOptions = {}): Promise<string> {
  checkOption('resolveModelFile', 'nameOrPath', nameOrPath, takes.text);
  checkOptions('resolveModelFile', options, cachedDownloadChecks);
  const known = findCatalogueModel(nameOrPath);
  if (known) return await fetchCatalogueModel(known, options);
  const path = resolve(nameOrPath);
  const hubFile = parseHubFile(nameOrPath);
  if (hubFile && (await stat(path).catch(() => null)) === null) return await fetchHubFile(hubFile, options);
  await checkModelPath(nameOrPath, path);
  return path;
}

/** Where a catalogue model lies, or will lie, in the cache. */
export function catalogueModelPath(model: CatalogueModel, cacheDir: string = cacheFolder()): string {
  return join(cacheDir, 'models', model.name, model.filename);
}

/** Where a hub file lies, or will lie, in the cache. */
export function hubFilePath(hubFile: HubFile, cacheDir: string = cacheFolder()): string {
  return join(cacheDir, 'models', 'hub', hubFile.owner, hubFile.repo, ...hubFile.file.split('/'));
}

async function fetchCatalogueModel(model: CatalogueModel, options: ResolveModelOptions): Promise<string> {
  const destination = catalogueModelPath(model, options.cacheDir ?? cacheFolder());
  const sizeBytes = model.sizeBytes ?? undefined;
  if (await isComplete(destination, sizeBytes)) return destination;
  const { source } = model;
  if (source.kind === 'hub') return await downloadHubFile(source, destination, options);
  const { signal, onProgress } = options;
  const waiting = progressMeter({ phase: 'waiting', name: model.filename, bytesTotal: null }, onProgress);
  await withFileLock(destination, { signal, onWait: () => waiting.finish() }, async () => {
    if (await isComplete(destination, sizeBytes)) return;
    const { url, hash, headers } = await findIndexedFile({
      project: source.project,
      filename: source.filename,
      signal,
    });
    const archive = join(destination, '..', source.filename);
    await downloadVerified({ url, destination: archive, hash: hash ?? undefined, headers, signal, onProgress });
    await extractZipEntry({
      archive,
      matches: (entryName) => entryName.endsWith('.gguf'),
      destination,
      hash: model.hash!,
      signal,
      onProgress,
    });
    await rm(archive, { force: true });
  });
  return destination;
}

async function fetchHubFile(hubFile: HubFile, options: ResolveModelOptions): Promise<string> {
  const destination = hubFilePath(hubFile, options.cacheDir ?? cacheFolder());
  if (await isComplete(destination, undefined)) return destination;
  return await downloadHubFile(hubFile, destination, options);
}

async function downloadHubFile(hubFile: HubFile, destination: string, options: ResolveModelOptions): Promise<string> {
  const { signal, onProgress } = options;
  const { url, headers, hash, sizeBytes } = await hubFileDetails(hubFile, { signal });
  return await downloadVerified({
    url,
    destination,
    headers,
    hash: hash ?? undefined,
    sizeBytes: sizeBytes ?? undefined,
    statusHint: hubStatusHint,
    signal,
    onProgress,
  });
}

async function checkModelPath(given: string, path: string): Promise<void> {
  const stats = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') {
      throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} cannot be read (${cause.code})`, {
        fields: { path },
        cause,
      });
    }
    return null;
  });
  const names = modelCatalogue.map((model) => model.name).join(', ');
  if (stats === null) {
    const looksLikeName = given === basename(given) && !given.toLowerCase().endsWith('.gguf');
    if (looksLikeName) {
      throw new CtkvrError(
        'CTKVR_UNKNOWN_MODEL',
        `no model is called ${given}: give one of ${names}, a path to a GGUF file, or owner/repo:file on the Hugging Face hub`,
        {
          fields: { model: given },
        },
      );
    }
    throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `there is no file ${path}: check the path, or give one of ${names}`, {
      fields: { path },
    });
  }
  if (!stats.isFile()) {
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} is not a file: give the path of a GGUF file`, {
      fields: { path },
    });
  }
  await access(path, constants.R_OK).catch((cause: NodeJS.ErrnoException) => {
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} cannot be read (${cause.code}): correct its permissions`, {
      fields: { path },
      cause,
    });
  });
}
