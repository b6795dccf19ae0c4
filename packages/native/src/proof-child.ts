/** The child process in which kernels are tested: a kernel that crashes or hangs it is not used, and the program goes on. */
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';

/** Marks the child: if it turns out to be a program of its own that loads us again, it must not make children too. */
const CHILD_VARIABLE = 'CTKVR_KERNEL_CHILD';

/**
 * Says of each table that it begins and what came of it, as JSON lines that are out before the next instruction runs. Arguments: the binary,
 * then names of tables.
 */
export const proofScript = `
const { writeSync } = require('node:fs');
const [path, ...tables] = process.argv.slice(1);
const binding = require(path);
const say = (line) => writeSync(1, JSON.stringify(line) + '\\n');
for (const table of tables) {
  say({ begin: table });
  say({ end: table, why: binding.testKernels(table) });
}
`;

export interface ProofChild {
  readonly binaryPath: string;
  /** Source that the child runs. Default: one that runs the tests; ours give one that fails. */
  readonly script?: string | undefined;
  /** Default 20 s: a machine may be busy, the tests take a fraction of a second. */
  readonly timeoutMs?: number | undefined;
}

/** What became of a child. */
export interface ChildRun {
  readonly stdout: string;
  /** How it ended, as the end of a sentence: 'was ended by SIGILL'. */
  readonly ended: string;
}

const DEFAULT_TIMEOUT_MS = 20_000;

/** Runs the child and blocks this thread meanwhile. @throws when there can be no child. */
export function runChildSync(child: ProofChild, tables: readonly string[]): ChildRun {
  const { args, options } = command(child, tables);
  const result: SpawnSyncReturns<string> = spawnSync(process.execPath, args, { ...options, encoding: 'utf8' });
  const { error, stdout, status, signal } = result;
  const tookTooLong = (error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT';
  if (error !== undefined && !tookTooLong) throw error;
  return { stdout, ended: ending({ status, signal, tookTooLong, timeoutMs: options.timeout }) };
}

/** Runs the child. Rejects when there can be none. */
export async function runChild(child: ProofChild, tables: readonly string[]): Promise<ChildRun> {
  const { args, options } = command(child, tables);
  const { timeout, ...rest } = options;
  const running = spawn(process.execPath, args, rest);
  return await new Promise((resolve, reject) => {
    let stdout = '';
    let tookTooLong = false;
    const timer = setTimeout(() => {
      tookTooLong = true;
      running.kill('SIGKILL');
    }, timeout);
    running.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    running.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    running.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ stdout, ended: ending({ status, signal, tookTooLong, timeoutMs: timeout }) });
    });
  });
}

/** @throws when this program cannot be run again as a plain Node.js. */
function command(
  { binaryPath, script = proofScript, timeoutMs = DEFAULT_TIMEOUT_MS }: ProofChild,
  tables: readonly string[],
) {
  if (process.env[CHILD_VARIABLE]) throw new Error('this is such a child itself');
  if (isSingleExecutable()) throw new Error('this program has Node.js inside and would run itself');
  const env = {
    ...process.env,
    [CHILD_VARIABLE]: '1',
    // A debugger, a loader or a profiler of this process is not meant for the child.
    NODE_OPTIONS: '',
    // Electron is Node.js when asked.
    ELECTRON_RUN_AS_NODE: '1',
  };
  const options = {
    env,
    stdio: ['ignore', 'pipe', 'ignore'] as ['ignore', 'pipe', 'ignore'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL' as const,
    windowsHide: true,
  };
  return { args: ['-e', script, binaryPath, ...tables], options };
}

function ending(of: {
  readonly status: number | null;
  readonly signal: string | null;
  readonly tookTooLong: boolean;
  readonly timeoutMs: number;
}): string {
  const { status, signal, tookTooLong, timeoutMs } = of;
  if (tookTooLong) return `did not end within ${timeoutMs / 1000} s`;
  return signal === null ? `ended with exit status ${status}` : `was ended by ${signal}`;
}

function isSingleExecutable(): boolean {
  try {
    return (createRequire(import.meta.url)('node:sea') as { isSea(): boolean }).isSea();
  } catch {
    return false; // a Node.js that cannot make them
  }
}
