// Child processes: quiet ones whose output goes to a log and is shown only when they fail, and the search for a program on PATH.
import { spawn } from 'node:child_process';
import { accessSync, constants, createWriteStream, mkdirSync, readFileSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { SetupError, say } from './messages.mjs';
import { root, toolsDir } from './paths.mjs';

const HEARTBEAT_MS = 30_000;
const SHOWN_LINES = 40;
/** Between asking a program to stop and ending it. */
const KILL_GRACE_MS = 5_000;

/**
 * Returns the path of `name` on PATH, or null.
 * @param {string} name
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string | null}
 */
export function findProgram(name, env = process.env) {
  for (const dir of (env.PATH ?? '').split(delimiter)) {
    const path = join(dir || '.', name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not here
    }
  }
  return null;
}

/**
 * Programs that run, each the first of a process group: what they start, such as the test that cargo runs, is stopped with them.
 * @type {Set<import('node:child_process').ChildProcess>}
 */
const running = new Set();

/** @param {{ command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv }} program */
function spawnGroup({ command, args, cwd, env }) {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  if (running.size === 0) for (const signal of endings) process.on(signal, endWith);
  running.add(child);
  child.once('close', () => forget(child));
  child.once('error', () => forget(child));
  return child;
}

/** @param {import('node:child_process').ChildProcess} child */
function forget(child) {
  running.delete(child);
  if (running.size === 0) for (const signal of endings) process.off(signal, endWith);
}

/** @param {import('node:child_process').ChildProcess} child @param {NodeJS.Signals} signal */
function signalGroup(child, signal) {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // all of it has ended
  }
}

/** A group of its own does not hear the terminal: it is told. @type {readonly NodeJS.Signals[]} */
const endings = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** @param {NodeJS.Signals} signal */
function endWith(signal) {
  for (const child of running) {
    signalGroup(child, signal);
    forget(child);
  }
  process.kill(process.pid, signal); // nobody listens any more: it ends this process
}

/**
 * Runs a program to its end. Output goes to .tools/logs/<name>.log; a line every half minute says that it still runs.
 * @param {{ name: string, title: string, command: string, args: string[], cwd?: string, env?: NodeJS.ProcessEnv, remedy?: string }} options
 *   `name` of the log, `title` for messages, `remedy` for the message of a failure
 * @throws {SetupError} with the last lines of its output when it fails
 */
export async function runLogged(options) {
  const log = join(toolsDir, 'logs', `${options.name}.log`);
  const startedAt = Date.now();
  say(`${options.title} ...`);
  let lastLine = '';
  const heartbeat = setInterval(() => say(`  ${seconds(startedAt)}: ${lastLine}`), HEARTBEAT_MS);
  try {
    const onOutput = (/** @type {string} */ text) => {
      lastLine = text.trim().split('\n').at(-1) || lastLine;
    };
    const { code } = await run({ ...options, log, onOutput });
    if (code === 0) return say(`  done in ${seconds(startedAt)}`);
    const tail = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
    throw new SetupError(
      `${options.title} failed (exit code ${code}). Its last lines:\n${tail}\nThe whole output is in ${log}.${options.remedy ? `\n${options.remedy}` : ''}`,
    );
  } finally {
    clearInterval(heartbeat);
  }
}

/**
 * Runs a program to its end. Returns its exit code (128 stands for a signal, 127 for a program that could not be started, 124 for one that
 * was stopped after `timeoutMs`), its stdout, and as `output` stdout and stderr as they came. With `log`, `output` is also written there.
 * @param {{ command: string, args: string[], cwd?: string, env?: NodeJS.ProcessEnv, log?: string, timeoutMs?: number,
 *   onOutput?: (text: string) => void }} options
 * @returns {Promise<{ code: number, stdout: string, output: string }>}
 */
export function run({ command, args, cwd = root, env = process.env, log, timeoutMs, onOutput }) {
  return new Promise((resolve) => {
    if (log) mkdirSync(dirname(log), { recursive: true });
    const file = log ? createWriteStream(log) : null;
    const child = spawnGroup({ command, args, cwd, env });
    let output = '';
    let stdout = '';
    let timedOut = false;
    let isFinished = false;
    const receive = (/** @type {string} */ text) => {
      output += text;
      file?.write(text);
      onOutput?.(text);
    };
    const finish = (/** @type {number} */ code) => {
      if (isFinished) return;
      isFinished = true;
      clearTimeout(timer);
      if (timedOut) receive(`\nstopped after ${timeoutMs} ms\n`);
      const result = { code: timedOut ? 124 : code, stdout, output };
      if (file) file.end(() => resolve(result));
      else resolve(result);
    };
    const stop = () => {
      timedOut = true;
      signalGroup(child, 'SIGTERM');
      setTimeout(() => signalGroup(child, 'SIGKILL'), KILL_GRACE_MS).unref();
    };
    const timer = timeoutMs ? setTimeout(stop, timeoutMs) : undefined;
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      receive(text);
    });
    child.stderr.setEncoding('utf8').on('data', receive);
    child.on('error', (error) => {
      receive(`${command}: ${error.message}\n`);
      finish(127);
    });
    // A grandchild may keep the pipes open after a stopped child is gone: then there is no 'close'.
    child.on('exit', () => timedOut && finish(124));
    child.on('close', (code) => finish(code ?? 128));
  });
}

/** @param {number} startedAt */
export function seconds(startedAt) {
  return `${((Date.now() - startedAt) / 1000).toFixed(1)} s`;
}
