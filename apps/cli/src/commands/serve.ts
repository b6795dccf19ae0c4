/** `ctkvr serve`: the OpenAI-compatible server of @ctkvr/server. */
import { Command } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { note } from '../console-io.js';
import { templateOf } from '../open-model.js';
import {
  addModelOptions,
  addSelectorOptions,
  deviceSettings,
  integer,
  type ModelOptions,
  type SelectorFlags,
  selectorSettings,
  size,
} from '../parse-options.js';
import { ProgressLine } from '../progress-line.js';
import { addStoreLimit, defaultStoreFolder } from '../sessions/session-store.js';

interface ServeFlags extends ModelOptions, SelectorFlags {
  readonly host: string;
  readonly port: number;
  readonly name?: string;
  readonly maxRunning: number;
  readonly maxQueued: number;
  readonly maxWait: number;
  readonly prefixCache?: number;
  readonly sessionStore: string;
  readonly storeLimit: number;
  readonly allowOrigin?: string[];
  readonly allowHost?: string[];
}

export function serveCommand(run: RunAction): Command {
  const command = new Command('serve').description(
    'Serve the model over HTTP, compatible with OpenAI clients. Ctrl-C stops it.',
  );
  addModelOptions(command);
  addSelectorOptions(command);
  addStoreLimit(command);
  return command
    .option('--host <address>', 'address to listen on; anything but a loopback address is open to others', '127.0.0.1')
    .option('--port <number>', '0 = any free one', integer(0, 65_535), 8080)
    .option('--name <id>', 'model name that clients send (default: from the model)')
    .option('--max-running <count>', 'requests that run at once', integer(1), 4)
    .option('--max-queued <count>', 'requests that may wait beyond those', integer(0), 128)
    .option('--max-wait <seconds>', 'longest that a request may wait', integer(1, 86_400), 300)
    .option(
      '--prefix-cache <size|off>',
      'the most memory for prompts that are kept, so that later ones begin from them (default: half of what sessions may take)',
      (text) => (text === 'off' ? 0 : size(text)),
    )
    .option(
      '--session-store <folder|off>',
      'where documents that were read are kept, so that they survive a restart',
      defaultStoreFolder(),
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
    model: flags.model,
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
    ...(flags.sessionStore === 'off'
      ? {}
      : { sessionStore: { folder: flags.sessionStore, maxBytes: flags.storeLimit } }),
    ...(flags.name === undefined ? {} : { modelName: flags.name }),
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
  await note(io, `${server.modelName} is served at ${server.url}/v1 (Ctrl-C stops it)`);
  await server.closed;
}
