/**
 * Files on the Hugging Face hub, named `owner/repo:file`. Addresses and headers: the hub's documented resolve endpoint. `HF_ENDPOINT` names
 * another hub, `HF_TOKEN` is sent with requests to it.
 */
import { CtkvrError } from '@ctkvr/core';
import { type ExpectedHash, sha256 } from './hash-file.js';
import { httpRequest, httpStatusError } from './http-request.js';

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const REVISION = 'main';

export interface HubFile {
  readonly owner: string;
  readonly repo: string;
  /** Path inside the repository. */
  readonly file: string;
}

/** Returns the parts of `owner/repo:file`, or null when `name` has another form. */
export function parseHubFile(name: string): HubFile | null {
  const match = /^([A-Za-z0-9][\w.-]*)\/([A-Za-z0-9][\w.-]*):([^\s\\:?#]+)$/.exec(name);
  if (!match) return null;
  const [, owner, repo, file] = match;
  if (
    file!.startsWith('/') ||
    file!.split('/').some((segment) => segment === '..' || segment === '.' || segment === '')
  )
    return null;
  return { owner: owner!, repo: repo!, file: file! };
}

/** Returns the hub's address, without a slash at its end. */
export function hubEndpoint(env: NodeJS.ProcessEnv = process.env): string {
  return (env.HF_ENDPOINT || DEFAULT_ENDPOINT).replace(/\/+$/, '');
}

/** What is known of a hub file before it is downloaded. */
export interface HubFileDetails {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** null when the hub does not say (small files that are not in its large file storage). */
  readonly hash: ExpectedHash | null;
  readonly sizeBytes: number | null;
}

/**
 * Asks the hub for the file's address, SHA-256 and size.
 * @throws {CtkvrError} CTKVR_UNKNOWN_MODEL when there is no such repository or file; CTKVR_DOWNLOAD_FAILED otherwise; CTKVR_ABORTED.
 */
export async function hubFileDetails(
  hubFile: HubFile,
  options: { readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal | undefined } = {},
): Promise<HubFileDetails> {
  const { env = process.env, signal } = options;
  const path = [hubFile.owner, hubFile.repo, 'resolve', REVISION, ...hubFile.file.split('/')]
    .map(encodeURIComponent)
    .join('/');
  const url = `${hubEndpoint(env)}/${path}`;
  const headers: Record<string, string> = env.HF_TOKEN ? { authorization: `Bearer ${env.HF_TOKEN}` } : {};
  // The hub's own answer carries hash and size; the storage it redirects to does not.
  const response = await httpRequest({
    url,
    method: 'HEAD',
    headers: { ...headers, 'accept-encoding': 'identity' },
    redirect: 'manual',
    signal,
  });
  const { status } = response;
  if (status === 404) throw noSuchFile(hubFile, url);
  if (status >= 400) throw httpStatusError(url, status, hubStatusHint(status));
  const tag = (response.headers.get('x-linked-etag') ?? '').replace(/^W\//, '').replaceAll('"', '');
  const size =
    response.headers.get('x-linked-size') ?? (status === 200 ? response.headers.get('content-length') : null);
  return {
    url,
    headers,
    hash: /^[0-9a-f]{64}$/.test(tag) ? sha256(tag) : null,
    sizeBytes: size !== null && /^\d+$/.test(size) ? Number(size) : null,
  };
}

/** Remedy for a status of the hub, or undefined. */
export function hubStatusHint(status: number): string | undefined {
  return status === 401 || status === 403
    ? 'the repository is private, gated or does not exist: set HF_TOKEN to a token that may read it'
    : undefined;
}

function noSuchFile({ owner, repo, file }: HubFile, url: string): CtkvrError {
  return new CtkvrError(
    'CTKVR_UNKNOWN_MODEL',
    `the hub has no file ${file} in ${owner}/${repo} (${url}): check the spelling of both`,
    {
      fields: { owner, repo, file, url },
    },
  );
}
