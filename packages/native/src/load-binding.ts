/**
 * Finds and loads the native binary. In this order: the file named by CTKVR_NATIVE_PATH (then nothing else is
 * tried), the development build beside this package, the package `@ctkvr/native-<triple>` of this platform.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CtkvrError } from '@ctkvr/core';
import type { NativeBinding } from './binding.js';
import { mapThrownErrors } from './map-thrown-errors.js';
import { platformTriple, platformTriples } from './platform-triple.js';
import { type KernelTrust, trustKernels, trustKernelsSync } from './trust-kernels.js';

/** What every binary of this version exports; a file without one of them is of another version, or not ours. */
const requiredExports = [
  ...['buildInfo', 'inspectModel', 'loadModel', 'processMemory', 'memoryNeed', 'CentroidIndex'],
  ...['kernelTables', 'testKernels', 'allowKernels', 'allowedKernels', 'fastestKernels'],
] as const;

/** Environment variable that names a binary to load instead of the installed one. */
export const NATIVE_PATH_VARIABLE = 'CTKVR_NATIVE_PATH';

let ready: NativeBinding | undefined;
let opening: Promise<NativeBinding> | undefined;

/**
 * Returns the native binding of this platform; the first call loads it (some milliseconds), later calls return the same object. The first
 * call on a machine also tests its kernels in a child process and waits for it, some tenths of a second: `openBinding` does not block.
 * @throws {CtkvrError} CTKVR_NATIVE_UNAVAILABLE when nothing could be loaded; each attempt's error is in the chain of causes.
 * CTKVR_INVALID_OPTION when CTKVR_ISA names no instruction set that can be used here.
 */
export function loadBinding(): NativeBinding {
  if (ready !== undefined) return ready;
  const { binding, path } = findBinding();
  // Another thread of this process may have decided already.
  if (binding.allowedKernels() === null) accept(binding, trustKernelsSync({ binding, binaryPath: path }));
  binding.fastestKernels();
  ready = binding;
  return ready;
}

/**
 * Like `loadBinding`, but the kernels' tests, where they are not remembered, run beside this thread.
 * @throws {CtkvrError} as `loadBinding`.
 */
export async function openBinding(): Promise<NativeBinding> {
  if (ready !== undefined) return ready;
  opening ??= open().finally(() => {
    opening = undefined;
  });
  return await opening;
}

async function open(): Promise<NativeBinding> {
  const { binding, path } = findBinding();
  if (binding.allowedKernels() === null) accept(binding, await trustKernels({ binding, binaryPath: path }));
  binding.fastestKernels();
  ready = binding;
  return ready;
}

/** Holds for the whole process. The warning is a process warning, which the program can handle. */
function accept(binding: NativeBinding, { allowed, warning }: KernelTrust): void {
  binding.allowKernels([...allowed]);
  if (warning !== null) process.emitWarning(warning, 'CtkvrWarning');
}

/** A binary that loads and is of this version. Its kernels are not proven yet. */
export interface FoundBinding {
  readonly binding: NativeBinding;
  readonly path: string;
}

/** Finds and loads the binary and no more. @throws {CtkvrError} CTKVR_NATIVE_UNAVAILABLE. */
export function findBinding(): FoundBinding {
  return loadFirst(candidates(process.env[NATIVE_PATH_VARIABLE]));
}

/** One place to look: a file path or a package name. */
export interface BindingCandidate {
  readonly what: string;
  readonly request: string;
}

/** Returns the places to look, best first. @param override the value of CTKVR_NATIVE_PATH, relative to the working directory. */
export function candidates(override: string | undefined): BindingCandidate[] {
  if (override !== undefined && override !== '') {
    return [{ what: `${NATIVE_PATH_VARIABLE}=${override}`, request: resolve(override) }];
  }
  const triple = platformTriple();
  return [
    { what: 'the development build', request: fileURLToPath(new URL(`../ctkvr.${triple}.node`, import.meta.url)) },
    { what: `the package @ctkvr/native-${triple}`, request: `@ctkvr/native-${triple}` },
  ];
}

/** Loads the first candidate that works. @throws {CtkvrError} CTKVR_NATIVE_UNAVAILABLE with every failure in the chain of causes. */
export function loadFirst(places: readonly BindingCandidate[]): FoundBinding {
  const require = createRequire(import.meta.url);
  const failures: Error[] = [];
  for (const place of places) {
    try {
      const path = require.resolve(existing(place.request));
      return { binding: check(require(path) as Record<string, unknown>), path };
    } catch (cause) {
      failures.push(new Error(`${place.what}: ${firstLine(cause)}`, { cause }));
    }
  }
  throw unavailable(failures);
}

function existing(request: string): string {
  if (request.startsWith('@') || existsSync(request)) return request;
  throw new Error(`there is no file ${request}`);
}

function check(exports: Record<string, unknown>): NativeBinding {
  const missing = requiredExports.filter((name) => exports[name] === undefined);
  if (missing.length > 0) {
    throw new Error(`the file loads, but has no ${missing.join(', ')}: it is not this version's binary`);
  }
  return mapThrownErrors(exports) as unknown as NativeBinding;
}

function unavailable(failures: readonly Error[]): CtkvrError {
  const triple = platformTriple();
  const known = (platformTriples as readonly string[]).includes(triple);
  const remedy = known
    ? 'Install with optional dependencies, or in a checkout run `pnpm --filter @ctkvr/native build:native`.'
    : `There is no prebuilt binary for ${triple}: build one from source and name it in ${NATIVE_PATH_VARIABLE}.`;
  const attempts = failures.map((failure) => failure.message).join('; ');
  return new CtkvrError('CTKVR_NATIVE_UNAVAILABLE', `the native engine could not be loaded (${attempts}). ${remedy}`, {
    fields: { triple, attempts: failures.length },
    cause: chain(failures),
  });
}

/** Links the failures so that the first one's chain of causes ends in the last one's. */
function chain(failures: readonly Error[]): unknown {
  return failures.reduceRight<unknown>((next, failure) => {
    let last: Error = failure;
    while (last.cause instanceof Error) last = last.cause;
    if (next !== undefined && last.cause === undefined) last.cause = next;
    return failure;
  }, undefined);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
}
