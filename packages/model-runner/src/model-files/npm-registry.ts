/** Finds a package's tarball in the registry that npm uses here: the `npm_config_registry` variable, else what the installed npm is configured for. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { CtkvrError } from '@ctkvr/core';
import type { ExpectedHash } from './hash-file.js';
import { httpRequest, httpStatusError } from './http-request.js';

const NPM_TIMEOUT_MS = 30_000;

/**
 * Returns the tarball's address and its hash as the registry states them.
 * @throws {CtkvrError} CTKVR_DOWNLOAD_FAILED when there is no registry, no such package, or no SHA-512 of it; CTKVR_ABORTED.
 */
export async function findNpmTarball(input: {
  readonly name: string;
  readonly version: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}): Promise<{ url: string; hash: ExpectedHash }> {
  const { name, version, env = process.env, signal } = input;
  const registry = (await npmRegistryUrl(env)).replace(/\/+$/, '');
  const url = `${registry}/${name.replace('/', '%2f')}/${version}`;
  const response = await httpRequest({ url, headers: { accept: 'application/json' }, signal });
  if (!response.ok) {
    await response.body?.cancel();
    throw httpStatusError(url, response.status, 'set npm_config_registry to a registry that has this package');
  }
  const manifest = (await response.json().catch(() => null)) as {
    dist?: { tarball?: unknown; integrity?: unknown };
  } | null;
  const { tarball, integrity } = manifest?.dist ?? {};
  const sha512 = typeof integrity === 'string' ? /(?:^|\s)sha512-([A-Za-z0-9+/=]+)/.exec(integrity)?.[1] : undefined;
  if (typeof tarball !== 'string' || sha512 === undefined) {
    throw new CtkvrError(
      'CTKVR_DOWNLOAD_FAILED',
      `${url} states no tarball with a SHA-512: set npm_config_registry to another registry`,
      {
        fields: { url },
      },
    );
  }
  return { url: tarball, hash: { algorithm: 'sha512', hex: Buffer.from(sha512, 'base64').toString('hex') } };
}

/** Returns the registry npm uses here. @throws {CtkvrError} CTKVR_DOWNLOAD_FAILED when none is known. */
export async function npmRegistryUrl(env: NodeJS.ProcessEnv): Promise<string> {
  if (env.npm_config_registry) return env.npm_config_registry;
  try {
    const { stdout } = await promisify(execFile)('npm', ['config', 'get', 'registry'], {
      env,
      timeout: NPM_TIMEOUT_MS,
      // npm is a .cmd file on Windows.
      shell: process.platform === 'win32',
    });
    const url = stdout.trim();
    if (URL.canParse(url)) return url;
  } catch (cause) {
    throw noRegistry(cause);
  }
  throw noRegistry(undefined);
}

function noRegistry(cause: unknown): CtkvrError {
  return new CtkvrError(
    'CTKVR_DOWNLOAD_FAILED',
    'no npm registry is known, because no npm was found to ask: set npm_config_registry',
    {
      cause,
    },
  );
}
