import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { withFileLock } from '../../src/model-files/index.js';
import { sendBytes, startFileServer } from './file-server.js';
import { temporaryFolder } from './temporary-folder.js';

const bytes = randomBytes(100_000);
const sha256 = createHash('sha256').update(bytes).digest('hex');

function child(...args: string[]): ChildProcess & { output: Promise<string> } {
  const script = fileURLToPath(new URL('download-child.ts', import.meta.url));
  const started = spawn(process.execPath, ['--conditions=@ctkvr/source', '--import', 'tsx', script, ...args], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  started.stdout!.on('data', (chunk) => {
    text += chunk;
  });
  return Object.assign(started, { output: once(started, 'close').then(() => text) });
}

describe('two processes', () => {
  it('download one file once: the second waits and uses it', async () => {
    await using server = await startFileServer((request, response) => {
      // Slow enough that the second process certainly meets the lock.
      setTimeout(() => sendBytes(request, response, bytes), 6000);
    });
    const destination = join(await temporaryFolder(), 'file.bin');
    const children = [1, 2].map(() => child('download', `${server.url}/f`, destination, sha256));
    const phases = (await Promise.all(children.map((c) => c.output))).map((output) => JSON.parse(output) as string[]);
    expect(children.map((c) => c.exitCode)).toEqual([0, 0]);
    expect(server.requests).toEqual(['GET /f -']);
    expect(phases.filter((p) => p.includes('download'))).toHaveLength(1);
    expect(phases.filter((p) => p.includes('waiting'))).toHaveLength(1);
    expect(await readFile(destination)).toEqual(bytes);
    expect(await readdir(join(destination, '..'))).toEqual(['file.bin']);
  });

  it('a lock whose holder was killed is taken over', async () => {
    const path = join(await temporaryFolder(), 'file.bin');
    const holder = child('hold', path);
    await once(holder.stdout!, 'data');
    let waits = 0;
    const entered = withFileLock(path, { staleMs: 2000, onWait: () => waits++ }, async () => 'entered');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(waits).toBeGreaterThan(0);
    holder.kill('SIGKILL');
    expect(await entered).toBe('entered');
  });

  it('waiting for a lock can be cancelled', async () => {
    const path = join(await temporaryFolder(), 'file.bin');
    await withFileLock(path, {}, async () => {
      const waiting = withFileLock(path, { signal: AbortSignal.timeout(300) }, async () => {});
      await expect(waiting).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    });
  });
});
