/** Saves that are killed and saves that the disk has no room for: the file at the path is always a whole snapshot, the old or the new one. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createRandom, propertyParameters } from '@ctkvr/testkit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Session } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

const { seed, numRuns } = propertyParameters(20);
const packageFolder = fileURLToPath(new URL('..', import.meta.url));
const childArguments = (args: readonly string[]) => [
  ...['--conditions=@ctkvr/source', '--import', 'tsx', join(packageFolder, 'test/save-child.ts')],
  ...args,
];

describeWithModel('saves under fault', (model) => {
  let folder = '';
  const file = (name: string) => join(folder, name);
  /** Two sessions of different length, and the snapshots that children start from. */
  let sessions: readonly [Session, Session];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-fault-'));
    const made = [400, 700].map(async (numTokens) => {
      const session = model().createSession({ contextLength: 1024 });
      await session.prefill(prose(numTokens));
      await session.save(file(`of-${numTokens}`));
      return session;
    });
    sessions = (await Promise.all(made)) as [Session, Session];
  }, 180_000);
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  /** Which of the two sessions the file holds, whole. */
  async function held(path: string): Promise<number> {
    const restored = await model().restoreSession(path);
    const lengths = sessions.map(({ length }) => length);
    expect(restored.tokens).toEqual(sessions[lengths.indexOf(restored.length)]?.tokens);
    await restored.close();
    return lengths.indexOf(restored.length);
  }

  const partialsOf = async (name: string) =>
    (await readdir(folder)).filter((other) => other.startsWith(`${name}.partial-`));

  test(`killed ${numRuns} times while it saves over a snapshot (seed ${seed}; CTKVR_TEST_SEED replays it)`, {
    timeout: 900_000,
  }, async () => {
    const random = createRandom(seed);
    await mkdir(file('killed'));
    const path = join(file('killed'), 'session');
    await sessions[0].save(path);
    const remains = async () => (await readdir(file('killed'))).filter((name) => name !== 'session');
    const found = [0, 0];
    for (let run = 0; run < numRuns; run++) {
      await killWhileSaving(spawnSaver(path), random.uniform());
      found[await held(path)]! += 1;
      expect((await remains()).length).toBeLessThanOrEqual(run + 1);
    }
    // Else the kills came between the saves, and showed nothing.
    expect((await remains()).length, `snapshots found: ${found}`).toBeGreaterThan(0);
    await sessions[0].save(path);
    expect(await held(path)).toBe(0);
    const hourAgo = Date.now() / 1000 - 3601;
    for (const name of await remains()) await utimes(join(file('killed'), name), hourAgo, hourAgo);
    const others = ['session.partial-0123456789abcdef', 'session.partial-mine', 'other.partial-0123456789abcdef'];
    for (const name of others) await writeFile(join(file('killed'), name), '');
    await sessions[1].save(path);
    expect(await held(path)).toBe(1);
    expect((await remains()).sort()).toEqual([...others].sort()); // of another save that runs, or none of ours
  });

  function spawnSaver(path: string): ChildProcess {
    const args = childArguments(['forever', file('of-400'), file('of-700'), path]);
    return spawn(process.execPath, args, { cwd: packageFolder, stdio: ['ignore', 'pipe', 'inherit'] });
  }

  /** Kills the child once it has saved, `when` of two saves' time later. */
  async function killWhileSaving(child: ChildProcess, when: number): Promise<void> {
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    await lines.next();
    const startedAt = performance.now();
    expect((await lines.next()).value).toBe('saved');
    await delay(when * 2 * (performance.now() - startedAt));
    child.kill('SIGKILL');
    const [, signal] = await once(child, 'exit');
    expect(signal).toBe('SIGKILL');
  }

  /** A file system of `sizeBytes` in memory; null where none may be mounted. */
  async function smallDisk(name: string, sizeBytes: number): Promise<string | null> {
    await mkdir(file(name));
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', file(name)]);
    return status === 0 ? file(name) : null;
  }

  test('a disk that is full: an error with path and reason, the old file whole, the session goes on', async (context) => {
    const { size } = await stat(file('of-700'));
    const disk = await smallDisk('full', Math.round(1.5 * size));
    if (disk === null) {
      context.skip('no file system can be mounted here, which takes root');
      return;
    }
    try {
      const path = join(disk, 'session');
      const session = sessions[1].fork();
      await sessions[0].save(path);
      const old = await readFile(path);
      await writeFile(join(disk, 'another'), Buffer.alloc(Math.round(0.5 * size)));
      await expect(session.save(path)).rejects.toMatchObject({
        code: 'CTKVR_DISK_FULL',
        fields: { path },
        message: expect.stringContaining(path),
      });
      expect(old.equals(await readFile(path))).toBe(true);
      expect((await readdir(disk)).sort()).toEqual(['another', 'session']);
      expect(await held(path)).toBe(0);
      await rm(join(disk, 'another'));
      await rm(path); // the old and the new one have no room together
      await session.save(path);
      expect(await held(path)).toBe(1);
      for await (const _ of session.generate({ maxTokens: 4, ignoreEndOfTurn: true }));
      expect(session.length).toBe(sessions[1].length + 4);
      await session.close();
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  test('a limit on the size of files: the same, in a process that has one', { timeout: 180_000 }, async () => {
    const path = file('limited');
    await sessions[0].save(path);
    const old = await readFile(path);
    const kib = Math.round((await stat(file('of-700'))).size / 2048);
    const command = `ulimit -f ${kib} && exec "$@"`;
    const args = ['-c', command, 'bash', process.execPath, ...childArguments(['once', file('of-700'), path])];
    const child = spawn('bash', args, { cwd: packageFolder, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    await once(child, 'close');
    const { error, numTokens } = JSON.parse(output);
    expect(error).toMatchObject({ code: 'CTKVR_OUTPUT_FAILED', fields: { path } });
    expect(error.message).toContain(path);
    expect(error.message).toMatch(/too large/i);
    expect(numTokens).toBe(4);
    expect(old.equals(await readFile(path))).toBe(true);
    expect(await partialsOf('limited')).toEqual([]);
  });
});
