import { expect, it } from 'vitest';
import { askDownloadSources } from '../../src/model-files/index.js';
import { startFileServer } from './file-server.js';

it('says of each source whether it answers, and why not', async () => {
  await using server = await startFileServer((_, response) => response.writeHead(500).end());
  await using deaf = await startFileServer(() => {});
  const gone = await startFileServer(() => {});
  await gone[Symbol.asyncDispose]();
  const env = { PIP_INDEX_URL: server.url, HF_ENDPOINT: deaf.url, npm_config_registry: gone.url };
  expect(await askDownloadSources({ env, timeoutMs: 1000 })).toMatchObject([
    { name: 'Python package index', reachable: true, why: null },
    { name: 'Hugging Face hub', url: deaf.url, reachable: false, why: 'no answer within 1 s' },
    { name: 'npm registry', reachable: false, why: 'ECONNREFUSED' },
  ]);
});

it('keeps passwords to itself', async () => {
  const address = 'http://user:secret@127.0.0.1:9';
  const env = { PIP_INDEX_URL: address, HF_ENDPOINT: address, npm_config_registry: address };
  expect(JSON.stringify(await askDownloadSources({ env }))).not.toContain('secret');
});
