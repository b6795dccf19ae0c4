/** Runs the command line from its sources in a process of its own, as a user does. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningCtkvr {
  readonly child: ChildProcessWithoutNullStreams;
  readonly finished: Promise<Finished>;
}

const packageFolder = fileURLToPath(new URL('..', import.meta.url));

/** @param options.env added to this process's environment. @param options.input written to standard input, which is then closed; null leaves it open. */
export function startCtkvr(
  args: readonly string[],
  options: { readonly env?: Record<string, string>; readonly input?: string | Uint8Array | null } = {},
): RunningCtkvr {
  const { env = {}, input = '' } = options;
  const child = spawn(process.execPath, ['--conditions=@ctkvr/source', '--import', 'tsx', 'src/bin.ts', ...args], {
    cwd: packageFolder,
    env: { ...process.env, NO_COLOR: '1', ...env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.on('error', () => {}); // a command that does not read its input may be gone already
  if (input !== null) child.stdin.end(input);
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, finished };
}

export function ctkvr(args: readonly string[], options?: Parameters<typeof startCtkvr>[1]): Promise<Finished> {
  return startCtkvr(args, options).finished;
}
