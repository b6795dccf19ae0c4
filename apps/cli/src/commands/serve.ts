/** `ctkvr serve`: the OpenAI-compatible server of @ctkvr/server. */
import { CtkvrError, countOf } from '@ctkvr/core';
import type { StartServerOptions } from '@ctkvr/server';
import { Command } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { note, printJson } from '../console-io.js';
import { templateOf } from '../open-model.js';
import { integer } from '../parse-numbers.js';
import {
  addModelsOptions,
  addSelectorOptions,
  deviceSettings,
  duration,
  type ModelOptions,
  type SelectorFlags,
  selectorSettings,
  size,
} from '../parse-options.js';
import { ProgressLine } from '../progress-line.js';
import { ropeSettings } from '../rope-flags.js';
import { addStoreLimit, defaultStoreFolder, promptStoreFolder, storeLimitOf } from '../sessions/session-store.js';
import { CommandSettings } from '../settings/command-settings.js';
import { readConfigFile } from '../settings/config-file.js';

interface ServeFlags extends Omit<ModelOptions, 'model'>, SelectorFlags {
  readonly model: string[];
  readonly host: string;
  readonly port: number;
  readonly name?: string[];
  readonly unloadAfter?: number;
  readonly engineTimeout: number;
  readonly memory?: number;
  readonly maxRunning: number;
  readonly maxQueued: number;
  readonly maxWait: number;
  readonly prefixCache?: number;
  readonly prefixCacheDisk?: number;
  readonly sessionStore: string;
  readonly storeLimit?: number;
  readonly allowOrigin?: string[];
  readonly allowHost?: string[];
  readonly apiKeyFile?: string;
  readonly shutdownGrace: number;
  readonly config?: string;
  readonly printConfig: boolean;
}

export function serveCommand(run: RunAction): Command {
  const command = new Command('serve').description(
    'Serve the model over HTTP, compatible with OpenAI clients. Ctrl-C stops it.',
  );
  addModelsOptions(command);
  addSelectorOptions(command);
  addStoreLimit(command);
  command
    .option('--host <address>', 'address to listen on; anything but a loopback address is open to others', '127.0.0.1')
    .option('--port <number>', '0 = any free one', integer(0, 65_535), 8080)
    .option('--name <id...>', 'name that clients send, one for each model (default: from the model)')
    .option('--api-key-file <file>', 'API keys of who may call, as `ctkvr key` makes them (default: everyone may)')
    .option(
      '--unload-after <time>',
      'time without a request, as 10m, after which a model is unloaded (default: never)',
      duration,
    )
    .option(
      '--memory <size>',
      'what several models may need together; those used longest ago are unloaded (default: nine tenths of what is free)',
      size,
    )
    .option('--max-running <count>', 'requests that run at once', integer(1), 4)
    .option('--max-queued <count>', 'requests that may wait beyond those', integer(0), 128)
    .option('--max-wait <seconds>', 'longest that a request may wait', integer(1, 86_400), 300)
    .option(
      '--engine-timeout <seconds>',
      "after which a model's process that hangs is killed and started again; to compute for long is not to hang; 0 = never",
      integer(0, 86_400),
      60,
    )
    .option('--shutdown-grace <seconds>', 'what running requests get to end when it stops', integer(0, 86_400), 10)
    .option(
      '--prefix-cache <size|off>',
      'the most memory for prompts that are kept, so that later ones begin from them (default: half of what sessions may take)',
      sizeOrOff,
    )
    .option(
      '--prefix-cache-disk <size|off>',
      'what prompts may take on disk that leave the prefix cache, so that later ones begin from them, also after a restart (default: off)',
      sizeOrOff,
    )
    .option(
      '--session-store <folder|off>',
      'where documents that were read are kept, so that they survive a restart',
      defaultStoreFolder(),
    )
    .option('--allow-origin <origin...>', "origins of web pages that may call, beside this machine's own; * = all")
    .option('--allow-host <name...>', 'host names under which it may be reached, beside localhost')
    .option('--config <file>', 'JSON file of these options under their names in camel case; CTKVR_CONFIG names one too')
    .option('--print-config', 'print what is in force as such a file, and where it is from, and do nothing else', false)
    .addHelpText(
      'after',
      '\nEvery option can also be a variable: CTKVR_MAX_RUNNING for --max-running. Flags go first, then they, then the file.',
    );
  const settings = new CommandSettings(command, ['config', 'printConfig']);
  return command.action((flags: ServeFlags) =>
    run(async (context) => {
      const path = flags.config ?? context.io.env.CTKVR_CONFIG;
      const file = path === undefined || path === '' ? null : { path, content: await readConfigFile(path) };
      settings.apply({ env: context.io.env, file });
      if (flags.printConfig) await printSettings(settings, context);
      else await serve(command.opts(), context);
    }),
  );
}

async function printSettings(settings: CommandSettings, { io }: CommandContext): Promise<void> {
  await printJson(io, settings.toConfig());
  for (const line of settings.describe()) await note(io, line);
}

export async function serve(flags: ServeFlags, { io, signal }: CommandContext): Promise<void> {
  // Loaded here: no other command needs the HTTP stack.
  const { isOpenToAll, readApiKeys, startServer } = await import('@ctkvr/server');
  const apiKeys = flags.apiKeyFile === undefined ? undefined : await readApiKeys(flags.apiKeyFile);
  if (isOpenToAll({ host: flags.host, apiKeys })) await note(io, openWarning(flags.host));
  const progress = new ProgressLine(io);
  const server = await startServer({
    ...modelsOf(flags),
    unloadAfterMs: flags.unloadAfter,
    engineTimeoutMs: flags.engineTimeout * 1000,
    memoryBytes: flags.memory,
    host: flags.host,
    port: flags.port,
    maxRunning: flags.maxRunning,
    maxQueued: flags.maxQueued,
    maxWaitMs: flags.maxWait * 1000,
    shutdownGraceMs: flags.shutdownGrace * 1000,
    apiKeys,
    allowedOrigins: flags.allowOrigin,
    allowedHosts: flags.allowHost,
    kvFormat: flags.kvFormat,
    selector: selectorSettings(flags),
    handleSignals: false,
    ...(flags.sessionStore === 'off'
      ? {}
      : { sessionStore: { folder: flags.sessionStore, maxBytes: storeLimitOf(flags) } }),
    ...(flags.context === undefined ? {} : { contextLength: flags.context }),
    load: {
      ...(await templateOf(flags, signal)),
      numThreads: flags.threads,
      mapWeights: flags.mapWeights,
      prefixCacheBytes: flags.prefixCache,
      ...(flags.prefixCacheDisk
        ? { promptStore: { folder: promptStoreFolder(), maxBytes: flags.prefixCacheDisk } }
        : {}),
      ...deviceSettings(flags),
      ...ropeSettings(flags),
      signal,
      onDownloadProgress: progress.onDownload,
      onProgress: (fraction) => progress.show({ label: 'loading the model', fraction, detail: '' }),
    },
  }).finally(() => progress.clear());
  const stop = () => void server.close();
  if (signal.aborted) stop();
  else signal.addEventListener('abort', stop, { once: true });
  const others = flags.model.length > 1 ? ` and ${countOf(flags.model.length - 1, 'other model')}` : '';
  await note(
    io,
    `${server.modelName}${others} ${others === '' ? 'is' : 'are'} served at ${server.url}/v1 (Ctrl-C stops it)`,
  );
  await server.closed;
}

function sizeOrOff(text: string): number {
  return text === 'off' ? 0 : size(text);
}

function openWarning(host: string): string {
  return `warning: without --api-key-file whoever reaches ${host} may use this server; \`ctkvr key <name> --file keys.json\` makes a key`;
}

/** One model is loaded now, several when they are asked for. @throws {CtkvrError} CTKVR_INVALID_OPTION */
function modelsOf({
  model: models,
  name: names,
}: ServeFlags): Pick<StartServerOptions, 'model' | 'modelName' | 'models'> {
  if (names !== undefined && names.length !== models.length) {
    throw new CtkvrError(
      'CTKVR_INVALID_OPTION',
      `--name must be given once for each --model: ${countOf(names.length, 'name')} for ${countOf(models.length, 'model')}`,
      { fields: { option: 'name', expected: models.length, actual: names.length } },
    );
  }
  const named = models.map((model, index) => ({ model, ...(names === undefined ? {} : { name: names[index]! }) }));
  const [{ model, name }, ...others] = named as [(typeof named)[number], ...typeof named];
  if (others.length > 0) return { models: named };
  return { model, ...(name === undefined ? {} : { modelName: name }) };
}
