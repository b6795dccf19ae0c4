/** Starts serving-process.ts, and ends it without any order. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { StartServerOptions } from '../src/index.js';
import { until } from './until.js';

export interface ServerProcess {
  readonly url: string;
  readonly enginePid: number;
  /** What it wrote to its log as errors. */
  readonly errors: () => string;
  /** Kills it with SIGKILL; resolves when its engine is gone too. */
  readonly kill: () => Promise<void>;
}

export function startServerProcess(
  options: Pick<StartServerOptions, 'model' | 'modelName' | 'sessionStore'>,
): Promise<ServerProcess> {
  const child = fork(fileURLToPath(new URL('./serving-process.ts', import.meta.url)), [JSON.stringify(options)], {
    execArgv: ['--conditions=@ctkvr/source', '--import', 'tsx'],
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let errors = '';
  child.stderr!.on('data', (chunk) => {
    errors += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error(`the server did not start: ${errors}`)));
    child.once('message', (message) => {
      const { url, enginePid } = message as Pick<ServerProcess, 'url' | 'enginePid'>;
      const kill = async () => {
        child.kill('SIGKILL');
        await until(() => !isAlive(enginePid));
      };
      resolve({ url, enginePid, errors: () => errors, kill });
    });
  });
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
