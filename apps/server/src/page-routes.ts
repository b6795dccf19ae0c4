/**
 * The web page: GET / and the files that it needs, under /assets/. All are read at the start: a path in a request is looked up among
 * them and never reaches the file system. Source of the headers: OWASP's cheat sheets on Content Security Policy and HTTP headers.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Context, Hono } from 'hono';

/** What the build of apps/page gave; the way there is the same from this file and from dist/index.js. */
const builtPage = fileURLToPath(new URL('../dist/page', import.meta.url));

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

interface PageFile {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly headers: Record<string, string>;
}

/** Without a built page there are no routes. @param folder of the built page */
export function addPageRoutes(app: Hono, folder = builtPage): void {
  if (!existsSync(folder)) return;
  for (const [route, file] of readPage(folder)) app.get(route, (context) => answer(context, file));
}

/** The files by route. */
function readPage(folder: string): Map<string, PageFile> {
  const assets = path.join(folder, 'assets');
  return new Map([
    ['/', readPageFile(path.join(folder, 'index.html'), 'no-cache')],
    // Their names have the hash of what is in them: what is under a name never changes.
    ...readdirSync(assets).map((name): [string, PageFile] => [
      `/assets/${name}`,
      readPageFile(path.join(assets, name), 'public, max-age=31536000, immutable'),
    ]),
  ]);
}

function readPageFile(file: string, cacheControl: string): PageFile {
  const body = new Uint8Array(readFileSync(file));
  return {
    body,
    headers: {
      'content-type': types[path.extname(file)] ?? 'application/octet-stream',
      'cache-control': cacheControl,
      etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`,
      'content-security-policy': policy,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    },
  };
}

function answer(context: Context, { body, headers }: PageFile): Response {
  const known = context.req.header('if-none-match')?.split(/, */) ?? [];
  const isKnown = known.some((tag) => tag === '*' || tag.replace(/^W\//, '') === headers.etag);
  return isKnown ? context.body(null, 304, headers) : context.body(body, 200, headers);
}
