/** `ctkvr serve`: the OpenAI-compatible server of @ctkvr/server. */
import { CtkvrError, countOf } from '@ctkvr/core';
import type { StartServerOptions } from '@ctkvr/server';
import { Command } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { note } from '../console-io.js';
import { templateOf } from '../open-model.js';
import {
  addModelsOptions,
  addSelectorOptions,
  deviceSettings,
  duration,
  integer,
  type ModelOptions,
  type SelectorFlags,
  selectorSettings,
  size,
} from '../parse-options.js';
import { ProgressLine } from '../progress-line.js';

interface ServeFlags extends Omit<ModelOptions, 'model'>, SelectorFlags {
  readonly model: string[];
  readonly host: string;
  readonly port: number;
  readonly name?: string[];
  readonly unloadAfter?: number;
  readonly memory?: number;
  readonly maxRunning: number;
  readonly maxQueued: number;
  readonly maxWait: number;
  readonly prefixCache?: number;
  readonly allowOrigin?: string[];
  readonly allowHost?: string[];
}

export function serveCommand(run: RunAction): Command {
  const command = new Command('serve').description(
    'Serve the model over HTTP, compatible with OpenAI clients. Ctrl-C stops it.',
  );
  addModelsOptions(command);
  addSelectorOptions(command);
  return command
    .option('--host <address>', 'address to listen on; anything but a loopback address is open to others', '127.0.0.1')
    .option('--port <number>', '0 = any free one', integer(0, 65_535), 8080)
    .option('--name <id...>', 'name that clients send, one for each model (default: from the model)')
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
      '--prefix-cache <size|off>',
      'the most memory for prompts that are kept, so that later ones begin from them (default: half of what sessions may take)',
      (text) => (text === 'off' ? 0 : size(text)),
    )
    .option('--allow-origin <origin...>', "origins of web pages that may call, beside this machine's own; * = all")
    .option('--allow-host <name...>', 'host names under which it may be reached, beside localhost')
    .action((flags: ServeFlags) => run((context) => serve(flags, context)));
}

export async function serve(flags: ServeFlags, { io, signal }: CommandContext): Promise<void> {
  // Loaded here: no other command needs the HTTP stack.
  const { startServer } = await import('@ctkvr/server');
  const progress = new ProgressLine(io);
  const server = await startServer({
    ...modelsOf(flags),
    unloadAfterMs: flags.unloadAfter,
    memoryBytes: flags.memory,
    host: flags.host,
    port: flags.port,
    maxRunning: flags.maxRunning,
    maxQueued: flags.maxQueued,
    maxWaitMs: flags.maxWait * 1000,
    allowedOrigins: flags.allowOrigin,
    allowedHosts: flags.allowHost,
    kvFormat: flags.kvFormat,
    selector: selectorSettings(flags),
    handleSignals: false,
    ...(flags.context === undefined ? {} : { contextLength: flags.context }),
    load: {
      ...(await templateOf(flags, signal)),
      numThreads: flags.threads,
      mapWeights: flags.mapWeights,
      prefixCacheBytes: flags.prefixCache,
      ...deviceSettings(flags),
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
