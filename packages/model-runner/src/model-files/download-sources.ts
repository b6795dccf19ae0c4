/** Where this machine would download from, and whether it answers. For diagnosis only: a download reports this by itself. */
import { CtkvrError, checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import { httpRequest, withoutCredentials } from './http-request.js';
import { hubEndpoint } from './hugging-face.js';
import { npmRegistryUrl } from './npm-registry.js';
import { packageIndexUrl } from './package-index.js';

export interface DownloadSource {
  readonly name: 'Hugging Face hub' | 'Python package index' | 'npm registry';
  /** What comes from there. */
  readonly serves: string;
  /** Without user name and password; null when none is configured. */
  readonly url: string | null;
  /** Whether anything answered, be it a refusal. */
  readonly reachable: boolean;
  /** Why not; null when it answered. */
  readonly why: string | null;
}

export interface AskSourcesOptions {
  /** Where addresses and proxies are configured. Default: this process's environment. */
  readonly env?: NodeJS.ProcessEnv;
  /** Default 3,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const inputChecks: OptionChecks<AskSourcesOptions> = {
  env: takes.optional(takes.object),
  timeoutMs: takes.optional(takes.integer(1, 0x7fff_ffff)),
  signal: takes.optional(takes.abortSignal),
};

/** pip and npm are asked for the address they use, and take their time on a busy machine. */
const ADDRESS_TIMEOUT_MS = 10_000;

/**
 * Asks every source at once and waits for each answer at most `timeoutMs`; what is unreachable is part of the answer.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION
 */
export async function askDownloadSources(options: AskSourcesOptions = {}): Promise<DownloadSource[]> {
  checkOptions('askDownloadSources', options, inputChecks);
  const { env = process.env, timeoutMs = 3000, signal } = options;
  const ask = async (
    name: DownloadSource['name'],
    serves: string,
    findUrl: () => Promise<string>,
  ): Promise<DownloadSource> => {
    let url: string | null = null;
    try {
      url = await within(findUrl(), ADDRESS_TIMEOUT_MS);
      const timeout = AbortSignal.timeout(timeoutMs);
      const response = await httpRequest({
        url: withoutCredentials(url),
        method: 'HEAD',
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
      await response.body?.cancel();
      return { name, serves, url: withoutCredentials(url), reachable: true, why: null };
    } catch (error) {
      const why = reason(error, timeoutMs);
      return { name, serves, url: url === null ? null : withoutCredentials(url), reachable: false, why };
    }
  };
  return await Promise.all([
    ask('Python package index', 'the default model', () => packageIndexUrl(env)),
    ask('Hugging Face hub', 'all other models', async () => hubEndpoint(env)),
    ask('npm registry', "the demo's text", () => npmRegistryUrl(env)),
  ]);
}

function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`its address was not found within ${timeoutMs / 1000} s`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function reason(error: unknown, timeoutMs: number): string {
  if (!CtkvrError.isInstance(error)) return error instanceof Error ? error.message : String(error);
  if (error.code === 'CTKVR_ABORTED') return `no answer within ${timeoutMs / 1000} s`;
  return typeof error.fields.reason === 'string' ? error.fields.reason : error.message;
}
