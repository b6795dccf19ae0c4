/** Texts that ask and chat have read once, on a real model: set CTKVR_TEST_MODEL to SmolLM2-135M-Instruct (a path or a catalogue name). */
import { cp, open, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lighthouseFact, lighthouseQuestion } from '../src/needles/lighthouse.js';
import { ctkvrInProcess } from './run-in-process.js';
import { temporaryFolder } from './temporary-folder.js';

const model = process.env.CTKVR_TEST_MODEL;
if (!model) process.stderr.write('apps/cli model tests skipped: CTKVR_TEST_MODEL is not set\n');
const text = `${'The sea was calm and the ship sailed on under a clear sky. '.repeat(10)}\n${lighthouseFact(482915)}`;
const question = lighthouseQuestion();

describe.skipIf(!model)('a text that was read once', { timeout: 300_000 }, () => {
  const before = process.env.CTKVR_CACHE_DIR;
  let folder = '';
  let file = '';
  let answer = '';
  beforeAll(async () => {
    folder = await temporaryFolder();
    // What is known of this machine's kernels, where anything is: to find it out again takes longer than the tests.
    await cp(join(cacheFolder(), 'kernels'), join(folder, 'cache', 'kernels'), { recursive: true }).catch(() => {});
    process.env.CTKVR_CACHE_DIR = join(folder, 'cache');
    file = join(folder, 'log.txt');
    await writeFile(file, text);
    const first = await ask();
    expect(first).toMatchObject({ restoredTokens: 0, answer: expect.stringContaining('482915') });
    answer = first.answer;
  }, 300_000);
  afterAll(() => {
    if (before === undefined) delete process.env.CTKVR_CACHE_DIR;
    else process.env.CTKVR_CACHE_DIR = before;
  });

  const options = ['--model', model!, '--max-tokens', '16', '--threads', '1'];
  async function ask(...more: string[]): Promise<{ restoredTokens: number; answer: string; stderr: string }> {
    const { code, stdout, stderr } = await ctkvrInProcess(['ask', file, question, ...options, '--json', ...more]);
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    return { ...JSON.parse(stdout), stderr };
  }
  const sessions = (...args: string[]) => ctkvrInProcess(['sessions', ...args]);
  const list = async () => JSON.parse((await sessions('--json')).stdout);

  it('is restored, says so, and answered as before; chat finds it too', async () => {
    const again = await ask();
    expect(again).toMatchObject({ answer, stderr: '' });
    expect(again.restoredTokens).toBeGreaterThan(100);
    expect(await list()).toMatchObject([{ name: 'log.txt', numTokens: again.restoredTokens }]);
    const { stdout, stderr } = await ctkvrInProcess(['chat', file, ...options], {}, `${question}\n`);
    expect(stderr).toMatch(new RegExp(`^restored ${again.restoredTokens} tokens in \\d+(\\.\\d)? m?s\n`));
    expect(stdout.trim()).toBe(answer.trim());
  });

  it('is read anew without the store, with other settings, and with the question in front', async () => {
    expect(await ask('--no-store')).toMatchObject({ restoredTokens: 0, answer });
    expect(await ask('--context', '700')).toMatchObject({ restoredTokens: 0 });
    expect(await ask('--question-first')).toMatchObject({ restoredTokens: 0 });
    expect(await list()).toHaveLength(2);
  });

  it('that has changed is read anew, and what is too large is not kept', async () => {
    await writeFile(file, `${text} And one word more.`);
    const { restoredTokens, stderr } = await ask('--store-limit', '1KB');
    expect(restoredTokens).toBe(0);
    expect(stderr).toMatch(
      /^what was read is not kept for the next time: .* takes \d+ bytes, .* 1000 in all; raise --store-limit\n$/,
    );
    await writeFile(file, text);
    expect((await ask()).restoredTokens).toBeGreaterThan(0);
  });

  it('and is damaged on the disk is put aside, read anew, and kept again', async () => {
    const [{ key }] = await list();
    await using snapshot = await open(join(folder, 'cache', 'sessions', `${key}.ctkvr`), 'r+');
    await snapshot.write(Buffer.from([255, 0, 255]), 0, 3, 100_000);
    const { stderr, ...read } = await ask();
    expect(stderr).toMatch(/checksum.*; it is now .*quarantine.*, and the text is read again\n$/s);
    expect(read).toMatchObject({ restoredTokens: 0, answer });
    expect(await readdir(join(folder, 'cache', 'sessions', 'quarantine'))).toHaveLength(1);
    expect((await ask()).restoredTokens).toBeGreaterThan(0);
  });

  it('can be exported, deleted, and imported', async () => {
    const exported = join(folder, 'exported');
    const [{ key }] = await list();
    expect(await sessions('export', key, exported)).toMatchObject({ code: 0, stderr: '' });
    expect(await sessions('delete', key)).toMatchObject({ code: 0, stderr: '' });
    const imported = await sessions('import', exported, '--name', 'of another machine', '--model', model!);
    expect(imported).toMatchObject({ code: 0, stdout: `${key}\n` });
    expect((await list())[0]).toMatchObject({ key, name: 'of another machine' });
    const again = await ask();
    expect(again.answer).toBe(answer);
    expect(again.restoredTokens).toBeGreaterThan(0);
    expect(await sessions('import', file, '--model', model!)).toMatchObject({ code: 3 });
  });
});
