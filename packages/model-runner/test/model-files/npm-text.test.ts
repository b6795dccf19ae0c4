import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from 'tar';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type NpmText, npmTextFile } from '../../src/index.js';
import { startFileServer } from './file-server.js';
import { temporaryFolder } from './temporary-folder.js';

afterEach(() => vi.unstubAllEnvs());

const content = 'page a\npage é';
const text: NpmText = {
  name: 'manual',
  packageName: '@x/manual',
  version: '1.2.3',
  includes: (path) => path.endsWith('.md'),
  join: (files) => ['docs/a.md', 'docs/sub/b.md'].map((path) => files.get(path)).join('\n'),
  sha256: createHash('sha256').update(content).digest('hex'),
};

/** A registry with one package, as npm packs it. */
async function startRegistry() {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'package/docs/sub'), { recursive: true });
  await writeFile(join(folder, 'package/docs/a.md'), 'page a');
  await writeFile(join(folder, 'package/docs/sub/b.md'), 'page é');
  await writeFile(join(folder, 'package/index.js'), 'not text');
  const file = join(folder, 'manual.tgz');
  await create({ file, cwd: folder, gzip: true }, ['package']);
  const tarball = await readFile(file);
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
  const server = await startFileServer((request, response) => {
    if (request.url?.endsWith('.tgz')) response.end(tarball);
    else response.end(JSON.stringify({ dist: { tarball: `${server.url}/manual.tgz`, integrity } }));
  });
  vi.stubEnv('npm_config_registry', server.url);
  return server;
}

describe('npmTextFile', () => {
  it('reads the files of the text out of the package, once', async () => {
    await using server = await startRegistry();
    const cacheDir = await temporaryFolder();
    const path = await npmTextFile(text, { cacheDir });
    expect(path).toBe(join(cacheDir, 'texts', 'manual-1.2.3.txt'));
    expect(await readFile(path, 'utf8')).toBe(content);
    const { length } = server.requests;
    expect(await npmTextFile(text, { cacheDir })).toBe(path);
    expect(server.requests).toHaveLength(length);
  });

  it('refuses a package that gives another text, and keeps nothing under its name', async () => {
    await using _server = await startRegistry();
    const cacheDir = await temporaryFolder();
    const other = { ...text, sha256: '0'.repeat(64) };
    const refused = npmTextFile(other, { cacheDir });
    await expect(refused).rejects.toMatchObject({
      code: 'CTKVR_CHECKSUM_MISMATCH',
      fields: { expected: other.sha256 },
    });
    await expect(readFile(join(cacheDir, 'texts', 'manual-1.2.3.txt'))).rejects.toThrow();
  });
});
