/**
 * Runs rust-kernels/crates/ctkvr-kernels/examples/kernels with cargo, which builds it first: what has to be measured in native code and is of no
 * use to a program that runs models.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { CtkvrError } from '@ctkvr/core';

/** What is multiplied; sums are f32, of int8 i32. */
export type ProductType = 'f32' | 'bf16' | 'int8';

/** What it prints of a kernel set. */
export interface PeakLine {
  readonly type: 'peak';
  readonly isa: string;
  readonly dtype: ProductType;
  readonly threads: number;
  /** Additions and multiplications a second, in billions, of all threads together. */
  readonly gflops: number;
}

/** What it prints of a kernel. */
export interface KernelLine {
  readonly type: 'kernel';
  readonly kernel: string;
  readonly rows: 'contiguous' | 'scattered' | null;
  readonly data: 'cache' | 'memory';
  readonly dtype: ProductType;
  readonly isa: string;
  readonly threads: number;
  /** Of all threads together, in `medianMs`. */
  readonly bytes: number;
  /** 0 where operations are not what is counted. */
  readonly flops: number;
  readonly medianMs: number;
  readonly p10Ms: number;
  readonly p90Ms: number;
  readonly numSamples: number;
}

const example = ['run', '--quiet', '--locked', '--release', '-p', 'ctkvr-kernels', '--example', 'kernels', '--'];

/**
 * Returns what it printed.
 * @param args its own arguments.
 * @throws {CtkvrError} CTKVR_NATIVE_UNAVAILABLE outside a checkout, without cargo, and when it fails.
 */
export async function runKernelsExample(args: readonly string[]): Promise<(PeakLine | KernelLine)[]> {
  const cargo = path.join(checkoutRoot(), 'scripts', 'cargo');
  const child = spawn(cargo, [...example, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (cause) => reject(unavailable(`${cargo} cannot be run`, cause)));
    child.once('close', resolve);
  });
  if (code !== 0) throw unavailable(`scripts/cargo ${example.join(' ')} ended with exit code ${code}`);
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as PeakLine | KernelLine);
}

/** The folder that has rust-kernels, from here upwards. */
function checkoutRoot(): string {
  for (let folder = import.meta.dirname; ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, 'rust-kernels', 'Cargo.toml'))) return folder;
    if (path.dirname(folder) === folder) throw unavailable('the kernels are measured in a checkout only');
  }
}

function unavailable(message: string, cause?: unknown): CtkvrError {
  return new CtkvrError('CTKVR_NATIVE_UNAVAILABLE', message, { cause });
}
