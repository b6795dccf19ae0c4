/** `ctkvr key`: makes an API key for `ctkvr serve --api-key-file`. */
import { Command } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { note, print } from '../console-io.js';

interface KeyFlags {
  readonly file?: string;
}

export function keyCommand(run: RunAction): Command {
  return new Command('key')
    .description('Make an API key for the server, and print it. Only its hash is kept: it cannot be shown again.')
    .argument('<name>', 'who will have it: letters, digits, _, . or -')
    .option('--file <file>', 'put its hash into this file, which `ctkvr serve --api-key-file` reads')
    .action((name: string, flags: KeyFlags) => run((context) => makeKey(name, flags, context)));
}

export async function makeKey(name: string, { file }: KeyFlags, { io }: CommandContext): Promise<void> {
  const { addApiKey, makeApiKey } = await import('@ctkvr/server');
  const { key, entry } = makeApiKey(name);
  if (file !== undefined) await addApiKey(file, entry);
  await print(io, `${key}\n`);
  await note(io, file === undefined ? `for a file of keys: ${JSON.stringify(entry)}` : `${name} is in ${file}`);
}
