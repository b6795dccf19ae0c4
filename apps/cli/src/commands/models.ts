/** `ctkvr models`: the catalogue and the cache. */
import { cacheFolder, listModels } from '@ctkvr/model-runner';
import { Command } from 'commander';
import type { RunAction } from '../command-context.js';
import { note, print, printJson } from '../console-io.js';
import { formatBytes, formatTable } from '../format.js';

export function modelsCommand(run: RunAction): Command {
  return new Command('models')
    .description('List the models known by name, and those in the cache')
    .option(
      '--json',
      'print [{ name, description, license, path, sizeBytes }]; path is null for what is not in the cache',
      false,
    )
    .action((flags: { json: boolean }) =>
      run(async ({ io }) => {
        const models = await listModels();
        if (flags.json) return await printJson(io, models);
        const rows = models.map((model) => [
          model.name,
          model.path === null ? 'not fetched' : 'in the cache',
          model.sizeBytes === null ? '' : formatBytes(model.sizeBytes),
          model.description ?? '',
        ]);
        await print(io, formatTable(rows, [2]));
        if (io.stdout.isTTY)
          await note(io, `Cache: ${cacheFolder()}. Any GGUF file works too, by its path or as owner/repo:file.`);
      }),
    );
}
