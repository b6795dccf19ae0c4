/** `ctkvr sessions`: what was read and kept: list, rename, delete, export, import. */
import { CtkvrError } from '@ctkvr/core';
import { documentKey, type SnapshotStore, type StoredSnapshot } from '@ctkvr/model-runner';
import { Command } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { note, print, printJson } from '../console-io.js';
import { formatBytes, formatCount, formatTable } from '../format.js';
import { openModel } from '../open-model.js';
import { addModelOptions, type ModelOptions } from '../parse-options.js';
import { ProgressLine } from '../progress-line.js';
import { modelNameOf, nameOf } from '../sessions/read-once.js';
import { sessionStore } from '../sessions/session-store.js';

/** Characters of a key that are shown, and that are enough to name one. */
const SHOWN_KEY = 12;
const KEY_HELP = 'its key, or the beginning of it';

export function sessionsCommand(run: RunAction): Command {
  const command = new Command('sessions').description('What was read and kept, so that it need not be read again');
  command
    .command('list', { isDefault: true })
    .description('list it, the most recently used first (the default)')
    .option(
      '--json',
      'print [{ key, name, bytes, savedAt, usedAt, modelName, numTokens }]; times in ms since 1970',
      false,
    )
    .action((flags: { json: boolean }) => run((context) => list(flags, context)));
  command
    .command('rename')
    .description('give it another name')
    .argument('<key>', KEY_HELP)
    .argument('<name>')
    .action((key: string, name: string) =>
      run(async () => {
        const store = sessionStore();
        await store.rename((await find(store, key)).key, name);
      }),
    );
  command
    .command('delete')
    .description('remove it from the disk')
    .argument('<keys...>', KEY_HELP)
    .action((keys: string[]) =>
      run(async () => {
        const store = sessionStore();
        const found = await Promise.all(keys.map((key) => find(store, key)));
        for (const { key } of found) await store.remove(key);
      }),
    );
  command
    .command('export')
    .description('copy it to a new file; the text is in it')
    .argument('<key>', KEY_HELP)
    .argument('<file>')
    .action((key: string, file: string) =>
      run(async () => {
        const store = sessionStore();
        await store.exportTo((await find(store, key)).key, file);
      }),
    );
  addModelOptions(
    command.command('import').description('check an exported file with its model, and keep it').argument('<file>'),
  )
    .option('--name <name>', "what to call it (default: the file's name)")
    .action((file: string, flags: ModelOptions & { name?: string }) =>
      run((context) => importFile(file, flags, context)),
    );
  return command;
}

async function list({ json }: { readonly json: boolean }, { io }: CommandContext): Promise<void> {
  const store = sessionStore();
  const snapshots = await store.list();
  if (json) return await printJson(io, snapshots);
  const rows = snapshots.map(({ key, name, modelName, numTokens, bytes, usedAt }) => [
    key.slice(0, SHOWN_KEY),
    name,
    modelName,
    formatCount(numTokens),
    formatBytes(bytes),
    new Date(usedAt).toISOString().slice(0, 16).replace('T', ' '),
  ]);
  if (rows.length > 0)
    await print(io, formatTable([['key', 'name', 'model', 'tokens', 'size', 'used (UTC)'], ...rows], [3, 4]));
  if (io.stdout.isTTY) await note(io, rows.length === 0 ? `Nothing is kept in ${store.folder}.` : store.folder);
}

/** @throws {CtkvrError} CTKVR_FILE_NOT_FOUND for none, CTKVR_INVALID_OPTION for several. */
async function find(store: SnapshotStore, prefix: string): Promise<StoredSnapshot> {
  const found = (await store.list()).filter(({ key }) => key.startsWith(prefix));
  const exact = found.find(({ key }) => key === prefix);
  const [first, ...others] = exact === undefined ? found : [exact];
  const fields = { key: prefix, actual: found.length };
  if (first === undefined) {
    throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `no session has the key ${prefix}: \`ctkvr sessions\` lists them`, {
      fields,
    });
  }
  if (others.length > 0) {
    throw new CtkvrError(
      'CTKVR_INVALID_OPTION',
      `the keys of ${found.length} sessions begin with ${prefix || 'nothing'}: give more of it`,
      {
        fields,
      },
    );
  }
  return first;
}

async function importFile(
  file: string,
  flags: ModelOptions & { readonly name?: string },
  { io, signal }: CommandContext,
): Promise<void> {
  const progress = new ProgressLine(io);
  await using model = await openModel(flags, { progress, signal });
  await using document = await model.openDocument(file, { signal });
  const { text, contextLength, kvFormat, selector, numTokens } = document;
  const key = documentKey({ model, text, contextLength, kvFormat, selector });
  const about = { name: flags.name ?? nameOf([file]), modelName: modelNameOf(model), numTokens };
  await sessionStore().importFrom(file, { key, ...about });
  await print(io, `${key}\n`);
}
