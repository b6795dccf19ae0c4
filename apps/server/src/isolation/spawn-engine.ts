/** Starts the process of a model. What it writes goes to the log, a line an event: native code and Node's warnings, never prompts. */
import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Logger } from 'pino';

/** Letters of a line that the log holds. */
const MAX_LINE = 500;

/** Whether this is the package's source, as in its tests: Node 20 runs no TypeScript by itself. */
const isSource = import.meta.url.endsWith('.ts');
const entry = fileURLToPath(new URL(isSource ? './engine-process.ts' : './engine-process.js', import.meta.url));

export function spawnEngine(logger: Logger): ChildProcess {
  const child = fork(entry, [], {
    execArgv: isSource ? ['--conditions=@ctkvr/source', '--import', tsx()] : [],
    serialization: 'advanced', // typed arrays cross as they are
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  for (const output of [child.stdout!, child.stderr!]) {
    createInterface({ input: output }).on('line', (line) => {
      logger.warn({ enginePid: child.pid, line: line.slice(0, MAX_LINE) }, 'engine output');
    });
  }
  return child;
}

function tsx(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
