#!/usr/bin/env node
/** Entry of `ctkvr`. */
import { exitCodes } from './exit-codes.js';
import { listenForInterrupt } from './interrupt.js';
import { printPlainWarnings } from './plain-warnings.js';

const { stdin, stdout, stderr, env } = process;
// A reader that goes away (`| head`) ends us like any program, without a message.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.brokenPipe);
});
printPlainWarnings(stderr);
const interrupt = listenForInterrupt(() => {
  if (stderr.isTTY) stderr.write('\n');
});
// Loaded only now: a Ctrl-C during the second that this can take is heard too.
const { runCli } = await import('./run-cli.js');
process.exitCode = await runCli(process.argv.slice(2), { stdin, stdout, stderr, env }, interrupt);
interrupt[Symbol.dispose]();
// Standard input that was not read to its end would keep the process alive.
stdin.unref?.();
