import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type DownloadProgress, downloadVerified, sha256 } from '../../src/model-files/index.js';
import { sendBytes, startFileServer } from './file-server.js';
import { temporaryFolder } from './temporary-folder.js';

const bytes = randomBytes(300_000);
const hash = sha256(createHash('sha256').update(bytes).digest('hex'));
const sizeBytes = bytes.length;
const retryDelayMs = 5;

describe('downloadVerified', () => {
  it('downloads, checks and reports progress; a second call asks nobody', async () => {
    await using server = await startFileServer((request, response) => sendBytes(request, response, bytes));
    const destination = join(await temporaryFolder(), 'sub', 'file.bin');
    const seen: DownloadProgress[] = [];
    const request = {
      url: `${server.url}/f`,
      destination,
      hash,
      sizeBytes,
      onProgress: (p: DownloadProgress) => seen.push(p),
    };
    expect(await downloadVerified(request)).toBe(destination);
    expect(await readFile(destination)).toEqual(bytes);
    expect(seen.filter((p) => p.phase === 'download').at(-1)).toMatchObject({
      bytesDone: sizeBytes,
      bytesTotal: sizeBytes,
    });
    expect(seen.some((p) => p.phase === 'verify')).toBe(true);
    await downloadVerified(request);
    expect(server.requests).toEqual(['GET /f -']);
    expect(await readdir(join(destination, '..'))).toEqual(['file.bin']);
  });

  it('goes on where a broken connection stopped', async () => {
    await using server = await startFileServer((request, response, n) =>
      sendBytes(request, response, bytes, n < 3 ? { breakAfter: 100_000 } : {}),
    );
    const destination = join(await temporaryFolder(), 'file.bin');
    await downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes, retryDelayMs });
    expect(await readFile(destination)).toEqual(bytes);
    expect(server.requests).toEqual(['GET /f -', 'GET /f bytes=100000-', 'GET /f bytes=200000-']);
  });

  it('goes on from a .part that an earlier process left', async () => {
    await using server = await startFileServer((request, response) => sendBytes(request, response, bytes));
    const destination = join(await temporaryFolder(), 'file.bin');
    await writeFile(`${destination}.part`, bytes.subarray(0, 123_456));
    await downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes });
    expect(server.requests).toEqual(['GET /f bytes=123456-']);
    expect(await readFile(destination)).toEqual(bytes);
  });

  it('starts over when the .part held other bytes', async () => {
    await using server = await startFileServer((request, response) => sendBytes(request, response, bytes));
    const destination = join(await temporaryFolder(), 'file.bin');
    await writeFile(`${destination}.part`, randomBytes(5000));
    await downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes });
    expect(server.requests).toEqual(['GET /f bytes=5000-', 'GET /f -']);
    expect(await readFile(destination)).toEqual(bytes);
  });

  it('starts over when the .part is longer than the file, size not known beforehand', async () => {
    await using server = await startFileServer((request, response) => sendBytes(request, response, bytes));
    const destination = join(await temporaryFolder(), 'file.bin');
    await writeFile(`${destination}.part`, randomBytes(sizeBytes + 10));
    await downloadVerified({ url: `${server.url}/f`, destination, hash, retryDelayMs });
    expect(await readFile(destination)).toEqual(bytes);
  });

  it('takes a whole answer from a server without ranges', async () => {
    await using server = await startFileServer((request, response) =>
      sendBytes(request, response, bytes, { ignoreRange: true }),
    );
    const destination = join(await temporaryFolder(), 'file.bin');
    await writeFile(`${destination}.part`, bytes.subarray(0, 1000));
    await downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes });
    expect(await readFile(destination)).toEqual(bytes);
  });

  it('refuses other bytes and keeps nothing', async () => {
    const other = randomBytes(sizeBytes);
    await using server = await startFileServer((request, response) => sendBytes(request, response, other));
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes });
    await expect(download).rejects.toMatchObject({ code: 'CTKVR_CHECKSUM_MISMATCH' });
    expect(await readdir(join(destination, '..'))).toEqual([]);
  });

  it('refuses a file of another size before fetching it', async () => {
    await using server = await startFileServer((request, response) => sendBytes(request, response, bytes));
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes: sizeBytes + 1 });
    await expect(download).rejects.toMatchObject({
      code: 'CTKVR_CHECKSUM_MISMATCH',
      fields: { expected: sizeBytes + 1, actual: sizeBytes },
    });
  });

  it('gives up on a connection that always breaks, and keeps what came for later', async () => {
    await using server = await startFileServer((request, response, n) =>
      n === 1 ? sendBytes(request, response, bytes, { breakAfter: 1000 }) : response.destroy(),
    );
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes, retryDelayMs });
    await expect(download).rejects.toMatchObject({
      code: 'CTKVR_DOWNLOAD_FAILED',
      message: expect.stringContaining('network'),
    });
    expect(await readdir(join(destination, '..'))).toEqual(['file.bin.part']);
    expect(await readFile(`${destination}.part`)).toEqual(bytes.subarray(0, 1000));
  });

  it('says that nobody answers, and where', async () => {
    const server = await startFileServer(() => {});
    await server[Symbol.asyncDispose]();
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: `${server.url}/f`, destination, hash, retryDelayMs });
    await expect(download).rejects.toMatchObject({
      code: 'CTKVR_DOWNLOAD_FAILED',
      message: expect.stringMatching(/127\.0\.0\.1.*ECONNREFUSED/),
    });
  });

  it.each([
    { status: 404, attempts: 1 },
    { status: 503, attempts: 4 },
  ])('status $status is tried $attempts times', async ({ status, attempts }) => {
    await using server = await startFileServer((_, response) => response.writeHead(status).end());
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: `${server.url}/f`, destination, hash, retryDelayMs });
    await expect(download).rejects.toMatchObject({ code: 'CTKVR_DOWNLOAD_FAILED', fields: { status } });
    expect(server.requests).toHaveLength(attempts);
  });

  it('stops when cancelled, keeping a .part that the next call completes', async () => {
    const controller = new AbortController();
    await using server = await startFileServer((request, response, n) => {
      if (n > 1) return sendBytes(request, response, bytes);
      response.writeHead(200, { 'content-length': sizeBytes });
      response.write(bytes.subarray(0, 100_000), () => setTimeout(() => controller.abort(), 50));
    });
    const destination = join(await temporaryFolder(), 'file.bin');
    const request = { url: `${server.url}/f`, destination, hash, sizeBytes };
    await expect(downloadVerified({ ...request, signal: controller.signal })).rejects.toMatchObject({
      code: 'CTKVR_ABORTED',
    });
    expect(await readdir(join(destination, '..'))).toEqual(['file.bin.part']);
    await downloadVerified(request);
    expect(server.requests[1]).toBe('GET /f bytes=100000-');
  });

  it('a cancelled download without a hash leaves nothing', async () => {
    const controller = new AbortController();
    await using server = await startFileServer((_, response) => {
      response.writeHead(200, { 'content-length': sizeBytes });
      response.write(bytes.subarray(0, 100_000), () => setTimeout(() => controller.abort(), 50));
    });
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: `${server.url}/f`, destination, signal: controller.signal });
    await expect(download).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect(await readdir(join(destination, '..'))).toEqual([]);
  });

  it('refuses before the first byte when the disk is too small', async () => {
    const destination = join(await temporaryFolder(), 'file.bin');
    const download = downloadVerified({ url: 'http://127.0.0.1:1/f', destination, hash, sizeBytes: 2 ** 52 });
    await expect(download).rejects.toMatchObject({ code: 'CTKVR_DISK_FULL', fields: { expected: 2 ** 52 } });
  });

  it.runIf(process.platform === 'linux')('names the file when the disk fills up on the way', async () => {
    await using server = await startFileServer((request, response) => sendBytes(request, response, bytes));
    const destination = join(await temporaryFolder(), 'file.bin');
    await symlink('/dev/full', `${destination}.part`);
    const download = downloadVerified({ url: `${server.url}/f`, destination, hash, sizeBytes, retryDelayMs });
    await expect(download).rejects.toMatchObject({
      code: 'CTKVR_DISK_FULL',
      message: expect.stringContaining('CTKVR_CACHE_DIR'),
    });
  });

  it('names a cache folder that is a file', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'cache'), '');
    const download = downloadVerified({
      url: 'http://127.0.0.1:1/f',
      destination: join(folder, 'cache', 'file.bin'),
      hash,
    });
    await expect(download).rejects.toMatchObject({ code: 'CTKVR_FILE_UNREADABLE' });
  });

  // Root may write everywhere, so the check has nothing to find there.
  it.skipIf(process.getuid?.() === 0)('names a cache folder that may not be written', async () => {
    const folder = join(await temporaryFolder(), 'read-only');
    await mkdir(folder);
    await chmod(folder, 0o500);
    const download = downloadVerified({ url: 'http://127.0.0.1:1/f', destination: join(folder, 'file.bin'), hash });
    await expect(download).rejects.toMatchObject({ code: 'CTKVR_FILE_UNREADABLE' });
    await chmod(folder, 0o700);
  });
});
