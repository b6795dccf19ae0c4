import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Hono } from 'hono';
import { afterAll, describe, expect, test } from 'vitest';
import { addPageRoutes } from '../src/page-routes.js';

const folder = mkdtempSync(path.join(tmpdir(), 'ctkvr-page-'));
mkdirSync(path.join(folder, 'assets'));
writeFileSync(path.join(folder, 'index.html'), '<!doctype html>');
writeFileSync(path.join(folder, 'assets/index-abc.js'), 'start();');
writeFileSync(path.join(folder, 'assets/index-abc.css'), 'body {}');
writeFileSync(path.join(folder, 'secret.txt'), 'not a part of the page');
afterAll(() => rmSync(folder, { recursive: true }));

const app = new Hono();
addPageRoutes(app, folder);

test.each([
  ['/', 'text/html; charset=utf-8', '<!doctype html>', 'no-cache'],
  ['/assets/index-abc.js', 'text/javascript; charset=utf-8', 'start();', 'public, max-age=31536000, immutable'],
  ['/assets/index-abc.css', 'text/css; charset=utf-8', 'body {}', 'public, max-age=31536000, immutable'],
])('%s is sent with its type, and with headers that let nothing else in', async (route, type, body, caching) => {
  const response = await app.request(route);
  expect(response.status).toBe(200);
  expect(await response.text()).toBe(body);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': type,
    'cache-control': caching,
    'content-security-policy':
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  });
});

describe('a browser that has a file', () => {
  test.each([(tag: string) => tag, (tag: string) => `"other", W/${tag}`, () => '*'])(
    'is told that it is the same, case %#',
    async (header) => {
      const tag = (await app.request('/')).headers.get('etag') ?? '';
      const response = await app.request('/', { headers: { 'if-none-match': header(tag) } });
      expect([response.status, await response.text()]).toEqual([304, '']);
      expect(response.headers.get('etag')).toBe(tag);
    },
  );

  test('gets another one', async () => {
    const response = await app.request('/', { headers: { 'if-none-match': '"other"' } });
    expect([response.status, await response.text()]).toEqual([200, '<!doctype html>']);
  });
});

test('HEAD has the headers alone', async () => {
  const response = await app.request('/', { method: 'HEAD' });
  expect([response.status, await response.text()]).toEqual([200, '']);
  expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
});

test.each([
  '/index.html',
  '/secret.txt',
  '/assets',
  '/assets/',
  '/assets/index-abc.js.map',
  '/assets/../secret.txt',
  '/assets/..%2fsecret.txt',
  '/assets/%2e%2e/secret.txt',
  '/assets/%2e%2e%2fsecret.txt',
  '/assets/..\\secret.txt',
  '/assets/index-abc.js%00.css',
  '//secret.txt',
])('%s is no part of the page', async (route) => {
  expect((await app.request(route)).status).toBe(404);
});

test('without a built page there are no routes', async () => {
  const empty = new Hono();
  addPageRoutes(empty, path.join(folder, 'nothing'));
  expect((await empty.request('/')).status).toBe(404);
});
