#!/usr/bin/env node
/** Entry of `ctkvr`. */
import { outputError } from './console-io.js';
import { exitCodeOf, exitCodes } from './exit-codes.js';
import { listenForInterrupt } from './interrupt.js';
import { printPlainWarnings } from './plain-warnings.js';

const { stdin, stdout, stderr, env } = process;
let outputFailure: NodeJS.ErrnoException | null = null;
stdout.on('error', (error: NodeJS.ErrnoException) => {
  // When the reader of our output leaves (`| head`), end without a message, as other programs do.
  if (error.code === 'EPIPE') process.exit(exitCodes.brokenPipe);
  outputFailure = error;
});
// A closed stderr is no reason to stop.
stderr.on('error', () => {});
printPlainWarnings(stderr);
const interrupt = listenForInterrupt(() => {
  if (stderr.isTTY) stderr.write('\n');
});
// Loaded only now, after the signal handlers: it can take a second, and Ctrl-C must work meanwhile.
const { runCli } = await import('./run-cli.js');
process.exitCode = await runCli(process.argv.slice(2), { stdin, stdout, stderr, env }, interrupt);
// Help and version were written without waiting; an error of theirs shows at the next write.
await new Promise<void>((resolve) => stdout.write('', () => setImmediate(resolve)));
if (process.exitCode === exitCodes.ok && outputFailure !== null) {
  const error = outputError('standard output', outputFailure);
  stderr.write(`ctkvr: ${error.message}\n`);
  process.exitCode = exitCodeOf(error);
}
interrupt[Symbol.dispose]();
// Standard input that was not read to its end would keep the process alive.
stdin.unref?.();
