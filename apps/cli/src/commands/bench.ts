/** `ctkvr bench`: hands its arguments to the benchmarks of the repository; they are not part of the published package. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CtkvrError } from '@ctkvr/core';
import { Command } from 'commander';
import { type RunAction, SilentExit } from '../command-context.js';

export function benchCommand(run: RunAction): Command {
  return new Command('bench')
    .description('Run a benchmark (in a checkout of the repository only); --help after it lists the suites')
    .argument('[arguments...]', 'passed on')
    .allowUnknownOption()
    .helpOption(false)
    .action((args: string[]) => run(() => bench(args)));
}

async function bench(args: readonly string[]): Promise<void> {
  // From src/commands and from the bundle in dist alike, apps/ is two levels up or three.
  const entry = ['../../benchmarks/dist/bin.js', '../../../benchmarks/dist/bin.js']
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(path));
  if (entry === undefined) {
    throw new CtkvrError(
      'CTKVR_FILE_NOT_FOUND',
      'the benchmarks are not part of this installation: run `npm run bench -- …` in a checkout of the repository',
    );
  }
  const child = spawn(process.execPath, [entry, ...args], { stdio: 'inherit' });
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exitCode) => resolve(exitCode ?? 1));
  });
  if (code !== 0) throw new SilentExit(code);
}
