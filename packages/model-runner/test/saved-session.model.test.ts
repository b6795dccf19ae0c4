/** Sessions saved to files and restored, in this process: what follows is what follows without. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadModel, type Session } from '../src/index.js';
import { capital, describeWithModel, prose, textOf } from './test-model.js';

describeWithModel('saved sessions', (model) => {
  let folder = '';
  const file = (name: string) => join(folder, name);
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-saved-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  async function tokensOf(session: Session, maxTokens: number): Promise<number[]> {
    const tokens: number[] = [];
    const options = { maxTokens, sampling: { temperature: 0 }, ignoreEndOfTurn: true };
    for await (const { tokenId } of session.generate(options)) tokens.push(tokenId);
    return tokens;
  }

  for (const kvFormat of ['f16', 'q8'] as const) {
    test(`ctkvr over keys in ${kvFormat} goes on with the same tokens, in another model too`, async () => {
      const session = model().createSession({
        kvFormat,
        selector: { denseBelow: 256, recentWindow: 64, appendSize: 16 },
      });
      await session.prefill(prose(700));
      await tokensOf(session, 20);
      const { bytes } = await session.save(file(kvFormat));
      expect(bytes).toBeGreaterThan(session.memory.kvBytes / 2);
      await using other = await loadModel(process.env.CTKVR_TEST_MODEL!, { numThreads: 1 });
      const restored = await other.restoreSession(file(kvFormat));
      expect(restored.tokens).toEqual(session.tokens);
      expect(restored.selector).toEqual(session.selector);
      expect([restored.kvFormat, restored.contextLength]).toEqual([kvFormat, session.contextLength]);
      expect(restored.native.indexedRange).toEqual(session.native.indexedRange);
      expect(restored.native.indexedRange.end).toBeGreaterThan(0);
      expect(await tokensOf(restored, 64)).toEqual(await tokensOf(session, 64));
      await session.close();
    });
  }

  test('a conversation goes on behind its messages', async () => {
    const session = model().createSession();
    await session.prefill(capital);
    const answer = await textOf(session, { sampling: { temperature: 0 } });
    await session.save(file('chat'));
    const restored = await model().restoreSession(file('chat'));
    const next = [...capital, { role: 'assistant', content: answer }, { role: 'user', content: 'And of Italy?' }];
    const [a, b] = [await session.prefill(next), await restored.prefill(next)];
    expect(b.numTokens).toBe(a.numTokens);
    expect(await tokensOf(restored, 16)).toEqual(await tokensOf(session, 16));
    await Promise.all([session.close(), restored.close()]);
  });

  test('what cannot be restored or written is refused, and the old file stays', async () => {
    const session = model().createSession({ contextLength: 64 });
    await session.prefill('A short text.');
    await session.save(file('kept'));
    const bytes = await readFile(file('kept'));
    const damaged = Uint8Array.from(bytes);
    damaged[1000]! ^= 1;
    await writeFile(file('damaged'), damaged);
    await expect(model().restoreSession(file('damaged'))).rejects.toMatchObject({
      code: 'CTKVR_BAD_SNAPSHOT',
      fields: { path: file('damaged'), field: 'checksum' },
    });
    await expect(model().restoreSession(file('none'))).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND' });
    await session.native.save(file('notes'), 'not those of a session');
    await expect(model().restoreSession(file('notes'))).rejects.toMatchObject({ fields: { field: 'notes' } });
    await expect(session.save(join(folder, 'no', 'folder'))).rejects.toMatchObject({ code: 'CTKVR_OUTPUT_FAILED' });
    await expect(session.save(folder)).rejects.toMatchObject({ code: 'CTKVR_OUTPUT_FAILED' });
    expect(await readFile(file('kept'))).toEqual(bytes);
    expect((await readdir(folder)).filter((name) => name.includes('partial'))).toEqual([]);
    await session.close();
    await expect(session.save(file('kept'))).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
  });
});
