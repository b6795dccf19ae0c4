/** `ctkvr pull` against a hub on 127.0.0.1. */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ctkvr, startCtkvr } from './run-ctkvr.js';
import { temporaryFolder } from './temporary-folder.js';

const bytes = randomBytes(200_000);
const sha256 = createHash('sha256').update(bytes).digest('hex');

/** A hub with one repository; `serve` answers the GETs. */
async function startHub(serve: RequestListener) {
  const gets: string[] = [];
  const server = createServer((request, response) => {
    if (request.method === 'HEAD') {
      if (!request.url!.startsWith('/o/r/')) return void response.writeHead(404).end();
      return void response
        .writeHead(302, { location: '/cdn', 'x-linked-etag': `"${sha256}"`, 'x-linked-size': bytes.length })
        .end();
    }
    gets.push(request.headers.range ?? 'whole');
    serve(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    gets,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe('pull', () => {
  it('prints the path; models then lists it; two at once fetch once', async () => {
    await using hub = await startHub((_, response) => void setTimeout(() => response.end(bytes), 4000));
    const env = { HF_ENDPOINT: hub.url, CTKVR_CACHE_DIR: await temporaryFolder() };
    const [one, two] = await Promise.all([
      ctkvr(['pull', 'o/r:m.gguf'], { env }),
      ctkvr(['pull', 'o/r:m.gguf', '--json'], { env }),
    ]);
    expect([one.code, two.code, one.stderr, two.stderr]).toEqual([0, 0, '', '']);
    const path = one.stdout.trim();
    expect(await readFile(path)).toEqual(bytes);
    expect(JSON.parse(two.stdout)).toEqual({ name: 'o/r:m.gguf', path, sizeBytes: bytes.length });
    expect(hub.gets).toEqual(['whole']);
    const models = await ctkvr(['models', '--json'], { env });
    expect(JSON.parse(models.stdout)).toContainEqual({
      name: 'o/r:m.gguf',
      description: null,
      license: null,
      path,
      sizeBytes: bytes.length,
    });
  });

  it('Ctrl-C ends it with 130; only the resumable part stays, and the next pull goes on from it', async () => {
    let broken = true;
    await using hub = await startHub((request, response) => {
      if (broken) {
        response.writeHead(200, { 'content-length': bytes.length });
        response.write(bytes.subarray(0, 50_000), () => setTimeout(() => running.child.kill('SIGINT'), 300));
        return;
      }
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response
        .writeHead(206, { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` })
        .end(bytes.subarray(start));
    });
    const env = { HF_ENDPOINT: hub.url, CTKVR_CACHE_DIR: await temporaryFolder() };
    const running = startCtkvr(['pull', 'o/r:m.gguf'], { env });
    expect(await running.finished).toEqual({ code: 130, stdout: '', stderr: '' });
    expect(await readdir(join(env.CTKVR_CACHE_DIR, 'models', 'hub', 'o', 'r'))).toEqual(['m.gguf.part']);
    broken = false;
    const second = await ctkvr(['pull', 'o/r:m.gguf'], { env });
    expect(second.code).toBe(0);
    expect(hub.gets).toEqual(['whole', 'bytes=50000-']);
    expect(await readFile(second.stdout.trim())).toEqual(bytes);
  });

  it('a file the hub does not have is status 3, a hub that is not there 5', async () => {
    const env = { CTKVR_CACHE_DIR: await temporaryFolder() };
    await using hub = await startHub((_, response) => void response.end());
    const missing = await ctkvr(['pull', 'o/other:m.gguf'], { env: { ...env, HF_ENDPOINT: hub.url } });
    expect(missing).toMatchObject({ code: 3, stderr: expect.stringContaining('no file m.gguf in o/other') });
    const offline = await ctkvr(['pull', 'o/r:m.gguf'], { env: { ...env, HF_ENDPOINT: 'http://127.0.0.1:9' } });
    expect(offline).toMatchObject({ code: 5, stderr: expect.stringContaining('check the network connection') });
  });
});
