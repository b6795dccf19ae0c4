/** Runs one command line: parses it, runs the command, turns what went wrong into one message and an exit status. */
import { CtkvrError } from '@ctkvr/core';
import { Command, CommanderError } from 'commander';
import { type RunAction, SilentExit } from './command-context.js';
import { askCommand } from './commands/ask.js';
import { benchCommand } from './commands/bench.js';
import { chatCommand } from './commands/chat.js';
import { demoCommand } from './commands/demo.js';
import { doctorCommand } from './commands/doctor.js';
import { fidelityCommand } from './commands/fidelity.js';
import { inspectCommand } from './commands/inspect.js';
import { keyCommand } from './commands/key.js';
import { modelsCommand } from './commands/models.js';
import { needlesCommand } from './commands/needles.js';
import { planCommand } from './commands/plan.js';
import { pullCommand } from './commands/pull.js';
import { serveCommand } from './commands/serve.js';
import { sessionsCommand } from './commands/sessions.js';
import type { ConsoleIo } from './console-io.js';
import { errorText, forCommandLine } from './error-text.js';
import { exitCodeOf, exitCodes } from './exit-codes.js';
import { exitCodeOfSignal, type Interrupt, Interrupted } from './interrupt.js';
import { version } from './version.js';

/** Names every number of `exitCodes`; a test checks that. */
export const EXIT_HELP = `
Exit status: 0 done, 1 failed, 2 wrong usage, 3 unusable file, model or device, 4 does not fit (context, memory, disk),
5 download failed, 130 interrupted (Ctrl-C), 141 the reader of the output left, 143 ended by SIGTERM.
Environment: CTKVR_CACHE_DIR (models and texts), HF_ENDPOINT and HF_TOKEN (Hugging Face hub), PIP_INDEX_URL (package index).`;

/** Returns the exit status. Nothing is thrown; every error has been printed to stderr. */
export async function runCli(args: readonly string[], io: ConsoleIo, interrupt: Interrupt): Promise<number> {
  const program = buildProgram(io, (action) => action({ io, signal: interrupt.signal }));
  try {
    await program.parseAsync([...args], { from: 'user' });
    return interrupt.received === null ? exitCodes.ok : exitCodeOfSignal(interrupt.received);
  } catch (error) {
    return await report(error, { args, io, interrupt });
  }
}

/** The whole command tree. Commander writes to `io` and throws instead of leaving the process. */
export function buildProgram(io: ConsoleIo, run: RunAction): Command {
  const program = new Command('ctkvr')
    .description('Ask long documents through a retrieved KV cache')
    .version(version, '-V, --version')
    .addHelpText('after', EXIT_HELP);
  const commands = [
    askCommand,
    chatCommand,
    sessionsCommand,
    pullCommand,
    modelsCommand,
    inspectCommand,
    fidelityCommand,
    needlesCommand,
    planCommand,
    serveCommand,
    keyCommand,
    benchCommand,
    demoCommand,
    doctorCommand,
  ];
  for (const make of commands) program.addCommand(make(run));
  for (const command of withSubcommands(program)) {
    command
      .exitOverride()
      .showHelpAfterError('(--help says more)')
      .configureOutput({
        writeOut: (text) => io.stdout.write(text),
        writeErr: (text) => io.stderr.write(text),
      });
  }
  return program;
}

function* withSubcommands(command: Command): Generator<Command> {
  yield command;
  for (const subcommand of command.commands) yield* withSubcommands(subcommand);
}

async function report(
  error: unknown,
  { args, io, interrupt }: { args: readonly string[]; io: ConsoleIo; interrupt: Interrupt },
): Promise<number> {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage; // commander has printed it
  if (error instanceof SilentExit) return error.exitCode;
  if (error instanceof Interrupted && interrupt.received === null) return exitCodes.interrupted;
  if ((error as NodeJS.ErrnoException | null)?.code === 'EPIPE') return exitCodes.brokenPipe;
  if (interrupt.received !== null) return exitCodeOfSignal(interrupt.received);
  if (args.includes('--json') && CtkvrError.isInstance(error)) {
    const { code, fields } = error;
    const message = forCommandLine(error);
    io.stderr.write(`${JSON.stringify({ error: { code, message, fields } })}\n`);
  } else {
    io.stderr.write(`ctkvr: ${errorText(error, io.env)}\n`);
  }
  return exitCodeOf(error);
}
