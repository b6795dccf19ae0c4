#!/usr/bin/env node
/** Entry of `npm run bench`. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. */
import { CtkvrError } from '@ctkvr/core';
import { CommanderError } from 'commander';
import { benchCommand } from './command.js';

const program = benchCommand();
for (const command of [program, ...program.commands]) command.exitOverride();
process.on('SIGINT', () => process.exit(130));
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCode(error);
}

function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has printed what is wrong
  process.stderr.write(`bench: ${messageOf(error)}\n`);
  return 1;
}

/** The message of an error that a user can fix, without advice for programmers; the stack of any other. */
function messageOf(error: unknown): string | undefined {
  if (!CtkvrError.isInstance(error)) return error instanceof RangeError ? error.message : (error as Error).stack;
  const problem = error.remedy === null ? error.message : error.message.slice(0, -`; ${error.remedy}`.length);
  return problem.replaceAll('contextLength', '--context');
}
