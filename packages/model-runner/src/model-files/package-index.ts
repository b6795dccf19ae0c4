/**
 * Finds a file of a Python package in the index that pip uses here: `PIP_INDEX_URL`, else what the installed pip is configured for. We
 * hold no address of our own, so a mirror or an internal index set up for pip serves us too. Protocol: PEP 503 (HTML), PEP 691 (JSON).
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { CtkvrError, checkOptions, takes } from '@ctkvr/core';
import { type ExpectedHash, sha256 } from './hash-file.js';
import { basicAuthorization, httpRequest, httpStatusError } from './http-request.js';

const PIP_TIMEOUT_MS = 30_000;
const ACCEPT = 'application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1';

export interface IndexedFile {
  readonly url: string;
  /** As the index says it; null when it does not. */
  readonly hash: ExpectedHash | null;
  /** Credentials of the index, when the file lies on the same host. */
  readonly headers: Readonly<Record<string, string>>;
}

const inputChecks = {
  project: takes.text,
  filename: takes.text,
  env: takes.optional(takes.object),
  signal: takes.optional(takes.abortSignal),
};

/**
 * Returns where `filename` of `project` can be fetched.
 * @throws {CtkvrError} CTKVR_DOWNLOAD_FAILED when no index is known, it cannot be reached, or does not have the file; CTKVR_ABORTED.
 */
export async function findIndexedFile(input: {
  readonly project: string;
  readonly filename: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}): Promise<IndexedFile> {
  checkOptions('findIndexedFile', input, inputChecks);
  const { project, filename, env = process.env, signal } = input;
  const index = basicAuthorization(await packageIndexUrl(env));
  const base = index.url.endsWith('/') ? index.url : `${index.url}/`;
  const page = new URL(`${normalised(project)}/`, base).href;
  const response = await httpRequest({ url: page, headers: { ...index.headers, accept: ACCEPT }, signal });
  if (!response.ok) {
    await response.body?.cancel();
    throw httpStatusError(page, response.status, 'set PIP_INDEX_URL to an index that has this package');
  }
  const body = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  const found = isJson ? findInJson(body, filename) : findInHtml(body, filename);
  if (found === null) {
    throw new CtkvrError(
      'CTKVR_DOWNLOAD_FAILED',
      `${page} lists no ${filename}: set PIP_INDEX_URL to an index that has it`,
      {
        fields: { url: page, filename },
      },
    );
  }
  const url = new URL(found.href, response.url || page);
  const sameHost = url.host === new URL(page).host;
  return {
    url: url.href,
    hash: found.sha256 === null ? null : sha256(found.sha256),
    headers: sameHost ? index.headers : {},
  };
}

/** Returns the base address of the index pip uses. `pip help install` prints it as the default of `--index-url`, its configuration counted in. */
export async function packageIndexUrl(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  if (env.PIP_INDEX_URL) return env.PIP_INDEX_URL;
  let cause: unknown;
  for (const python of ['python3', 'python']) {
    try {
      const { stdout } = await promisify(execFile)(python, ['-m', 'pip', 'help', 'install'], {
        // Wide enough that pip does not break the line.
        env: { ...env, COLUMNS: '1000', PIP_NO_COLOR: '1' },
        timeout: PIP_TIMEOUT_MS,
      });
      const url = indexUrlInHelp(stdout);
      if (url !== null) return url;
    } catch (error) {
      cause = error;
    }
  }
  throw new CtkvrError(
    'CTKVR_DOWNLOAD_FAILED',
    'no Python package index is known, because no pip was found to ask: set PIP_INDEX_URL, or install pip',
    { cause },
  );
}

/** Returns the default of `--index-url` in pip's help text, or null. */
export function indexUrlInHelp(help: string): string | null {
  const match = /--index-url\s+<url>[^(]*\(default\s+([^\s)]+)\)/.exec(help);
  return match && URL.canParse(match[1]!) ? match[1]! : null;
}

/** PEP 503: runs of `-`, `_`, `.` become one `-`, lower case. */
function normalised(project: string): string {
  return project.replace(/[-_.]+/g, '-').toLowerCase();
}

function findInJson(body: string, filename: string): { href: string; sha256: string | null } | null {
  const page = parseJson(body) as {
    files?: { filename?: unknown; url?: unknown; hashes?: { sha256?: unknown } }[];
  } | null;
  const file = page?.files?.find((candidate) => candidate.filename === filename);
  if (typeof file?.url !== 'string') return null;
  return { href: file.url, sha256: typeof file.hashes?.sha256 === 'string' ? file.hashes.sha256 : null };
}

function findInHtml(body: string, filename: string): { href: string; sha256: string | null } | null {
  for (const [, href, text] of body.matchAll(/<a\s[^>]*?href\s*=\s*["']([^"']+)["'][^>]*>([^<]*)<\/a>/gi)) {
    if (text!.trim() !== filename) continue;
    const [address, fragment = ''] = href!.replaceAll('&amp;', '&').split('#');
    return { href: address!, sha256: /(?:^|&)sha256=([0-9a-f]{64})/i.exec(fragment)?.[1]?.toLowerCase() ?? null };
  }
  return null;
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    throw new CtkvrError('CTKVR_DOWNLOAD_FAILED', 'the package index answered with broken JSON: try again later', {
      cause,
    });
  }
}
