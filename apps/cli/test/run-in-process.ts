/** Runs a command in this process: for commands that only compute, where a process for each of many cases would take minutes. */
import { Readable, Writable } from 'node:stream';
import { runCli } from '../src/run-cli.js';
import type { Finished } from './run-ctkvr.js';

/** @param env what the command sees as its environment, beside this process's own. @param input of standard input. */
export async function ctkvrInProcess(
  args: readonly string[],
  env: Record<string, string> = {},
  input = '',
): Promise<Finished> {
  const written = { stdout: '', stderr: '' };
  const into = (name: keyof typeof written) =>
    new Writable({
      write(chunk, _encoding, done) {
        written[name] += chunk;
        done();
      },
    });
  const io = {
    stdin: Readable.from(input === '' ? [] : [input]),
    stdout: into('stdout'),
    stderr: into('stderr'),
    env: { ...process.env, ...env },
  };
  const interrupt = { signal: new AbortController().signal, received: null, [Symbol.dispose]() {} };
  return { code: await runCli(args, io, interrupt), ...written };
}
