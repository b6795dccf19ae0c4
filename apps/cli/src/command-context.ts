/** What every command gets beside its own options, and how it runs. */
import type { ConsoleIo } from './console-io.js';

export interface CommandContext {
  readonly io: ConsoleIo;
  /** Fires on Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
}

/** Runs `action` of the command that was chosen. */
export type RunAction = (action: (context: CommandContext) => Promise<void>) => Promise<void>;

/** Ends the command with an exit status; the reason has been printed, by a child process or by the command. */
export class SilentExit extends Error {
  constructor(readonly exitCode: number) {
    super(`exit status ${exitCode}`);
  }
}
