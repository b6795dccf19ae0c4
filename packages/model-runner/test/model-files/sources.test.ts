import { createHash, randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { hubFileDetails } from '../../src/model-files/hugging-face.js';
import { findIndexedFile, parseHubFile } from '../../src/model-files/index.js';
import { findNpmTarball } from '../../src/model-files/npm-registry.js';
import { indexUrlInHelp } from '../../src/model-files/package-index.js';
import { startFileServer } from './file-server.js';

afterEach(() => vi.unstubAllEnvs());

const hex = createHash('sha256').update('x').digest('hex');

describe('findIndexedFile', () => {
  const json = JSON.stringify({
    files: [
      { filename: 'a_b-1.tar.gz', url: 'a_b-1.tar.gz', hashes: {} },
      { filename: 'a_b-1-py3-none-any.whl', url: '../../files/a_b-1-py3-none-any.whl', hashes: { sha256: hex } },
    ],
  });
  const html = `<html><body><a href="a_b-1.tar.gz">a_b-1.tar.gz</a><br/>
    <a data-requires-python="&gt;=3.9" href="../../files/a_b-1-py3-none-any.whl#sha256=${hex}" >a_b-1-py3-none-any.whl</a></body></html>`;

  it.each([
    { form: 'JSON', type: 'application/vnd.pypi.simple.v1+json', body: json },
    { form: 'HTML', type: 'text/html; charset=utf-8', body: html },
  ])('reads an index in $form', async ({ type, body }) => {
    await using server = await startFileServer((_, response) =>
      response.writeHead(200, { 'content-type': type }).end(body),
    );
    const env = { PIP_INDEX_URL: `${server.url}/simple` };
    const found = await findIndexedFile({ project: 'A.b', filename: 'a_b-1-py3-none-any.whl', env });
    expect(found).toEqual({
      url: `${server.url}/files/a_b-1-py3-none-any.whl`,
      hash: { algorithm: 'sha256', hex },
      headers: {},
    });
    expect(server.requests).toEqual(['GET /simple/a-b/ -']);
    const missing = findIndexedFile({ project: 'A.b', filename: 'a_b-2-py3-none-any.whl', env });
    await expect(missing).rejects.toMatchObject({
      code: 'CTKVR_DOWNLOAD_FAILED',
      message: expect.stringContaining('a_b-2'),
    });
  });

  it('sends the credentials of the index as a header and keeps them out of messages', async () => {
    const seen: (string | undefined)[] = [];
    await using server = await startFileServer((request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(403).end();
    });
    const env = { PIP_INDEX_URL: `${server.url.replace('http://', 'http://user:p%40ss@')}/simple/` };
    const refused = await findIndexedFile({ project: 'a', filename: 'a.whl', env }).catch((error: Error) => error);
    expect(seen).toEqual([`Basic ${Buffer.from('user:p@ss').toString('base64')}`]);
    expect((refused as Error).message).toMatch(/403.*PIP_INDEX_URL/);
    expect((refused as Error).message).not.toContain('p%40ss');
  });

  it('finds the index in what pip prints', () => {
    const help =
      '  -i, --index-url <url>       Base URL of the Index (default https://index.test/simple). This\n  --extra-index-url <url> x';
    expect(indexUrlInHelp(help)).toBe('https://index.test/simple');
    expect(indexUrlInHelp('usage: pip')).toBeNull();
  });
});

describe('the hub', () => {
  it('parses owner/repo:file and nothing else', () => {
    expect(parseHubFile('Qwen/Some-GGUF:sub/a-q4.gguf')).toEqual({
      owner: 'Qwen',
      repo: 'Some-GGUF',
      file: 'sub/a-q4.gguf',
    });
    for (const name of ['a.gguf', 'a/b.gguf', '/a/b:c', 'a/b:../c', 'a/b:/c', 'a/b/c:d', 'C:\\x\\y.gguf', 'a/b:']) {
      expect(parseHubFile(name), name).toBeNull();
    }
  });

  it('learns hash and size from the answer before the redirect, and sends the token', async () => {
    let token: string | undefined;
    await using server = await startFileServer((request, response) => {
      token = request.headers.authorization;
      response.writeHead(302, { location: '/elsewhere', 'x-linked-etag': `"${hex}"`, 'x-linked-size': '123' }).end();
    });
    const env = { HF_ENDPOINT: `${server.url}/`, HF_TOKEN: 'hf_secret' };
    const details = await hubFileDetails({ owner: 'o', repo: 'r', file: 'sub/f.gguf' }, { env });
    expect(server.requests).toEqual(['HEAD /o/r/resolve/main/sub/f.gguf -']);
    expect(details).toMatchObject({ url: `${server.url}/o/r/resolve/main/sub/f.gguf`, sizeBytes: 123, hash: { hex } });
    expect(token).toBe('Bearer hf_secret');
  });

  it.each([
    { status: 404, code: 'CTKVR_UNKNOWN_MODEL', says: 'no file f.gguf in o/r' },
    { status: 401, code: 'CTKVR_DOWNLOAD_FAILED', says: 'HF_TOKEN' },
  ])('explains status $status', async ({ status, code, says }) => {
    await using server = await startFileServer((_, response) => response.writeHead(status).end());
    const details = hubFileDetails({ owner: 'o', repo: 'r', file: 'f.gguf' }, { env: { HF_ENDPOINT: server.url } });
    await expect(details).rejects.toMatchObject({ code, message: expect.stringContaining(says) });
  });
});

describe('findNpmTarball', () => {
  it('takes address and SHA-512 from the registry', async () => {
    const sha512 = randomBytes(64);
    const dist = { tarball: 'http://other.test/x.tgz', integrity: `sha1-abc= sha512-${sha512.toString('base64')}` };
    await using server = await startFileServer((_, response) => response.end(JSON.stringify({ dist })));
    const found = await findNpmTarball({
      name: '@s/x',
      version: '1.0.0',
      env: { npm_config_registry: `${server.url}/` },
    });
    expect(found).toEqual({ url: dist.tarball, hash: { algorithm: 'sha512', hex: sha512.toString('hex') } });
    expect(server.requests).toEqual(['GET /@s%2fx/1.0.0 -']);
  });

  it('refuses a package without a SHA-512', async () => {
    await using server = await startFileServer((_, response) =>
      response.end(JSON.stringify({ dist: { tarball: 'http://other.test/x.tgz' } })),
    );
    const found = findNpmTarball({ name: 'x', version: '1.0.0', env: { npm_config_registry: server.url } });
    await expect(found).rejects.toMatchObject({ code: 'CTKVR_DOWNLOAD_FAILED' });
  });
});
