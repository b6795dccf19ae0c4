/** `ctkvr pull`: brings a model into the cache and prints where it lies. */
import { stat } from 'node:fs/promises';
import { CtkvrError } from '@ctkvr/core';
import { DEFAULT_MODEL, findCatalogueModel, hashFile, resolveModelFile } from '@ctkvr/model-runner';
import { Command } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { print, printJson } from '../console-io.js';
import { ProgressLine } from '../progress-line.js';

interface PullFlags {
  readonly verify: boolean;
  readonly json: boolean;
}

export function pullCommand(run: RunAction): Command {
  return new Command('pull')
    .description(
      'Download a model into the cache, unless it is there, and print its path. A broken download is resumed.',
    )
    .argument('[name]', 'catalogue name, or owner/repo:file on the Hugging Face hub', DEFAULT_MODEL)
    .option('--verify', 'check the SHA-256 of a file that is already there too (catalogue models)', false)
    .option('--json', 'print { name, path, sizeBytes }', false)
    .action((name: string, flags: PullFlags) => run((context) => pull(name, flags, context)));
}

export async function pull(name: string, flags: PullFlags, { io, signal }: CommandContext): Promise<void> {
  const progress = new ProgressLine(io);
  let path: string;
  try {
    path = await resolveModelFile(name, { signal, onProgress: progress.onDownload });
    if (flags.verify) await verify(name, path, signal);
  } finally {
    progress.clear();
  }
  const { size } = await stat(path);
  if (flags.json) await printJson(io, { name, path, sizeBytes: size });
  else await print(io, `${path}\n`);
}

async function verify(name: string, path: string, signal: AbortSignal): Promise<void> {
  const expected = findCatalogueModel(name)?.hash;
  if (!expected) {
    throw new CtkvrError(
      'CTKVR_INVALID_OPTION',
      `--verify needs a model whose SHA-256 the catalogue holds; ${name} has none there`,
      {
        fields: { option: '--verify', model: name },
      },
    );
  }
  const actual = await hashFile(path, expected.algorithm, { signal });
  if (actual === expected.hex) return;
  throw new CtkvrError(
    'CTKVR_CHECKSUM_MISMATCH',
    `${path} has the SHA-256 ${actual}, expected ${expected.hex}: delete it and pull it again`,
    {
      fields: { path, expected: expected.hex, actual },
    },
  );
}
