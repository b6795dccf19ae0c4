/** Documents saved to files and opened again: nothing is read, and the answers are the same. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadModel, type ReadDocument } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

describeWithModel('saved documents', (model) => {
  let folder = '';
  const file = (name: string) => join(folder, name);
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-documents-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  const question = 'Who watched the harbour?';
  async function tokensOf(document: ReadDocument): Promise<number[]> {
    const tokens: number[] = [];
    for await (const { tokenId } of document.ask(question, { maxTokens: 24, sampling: { temperature: 0 } })) {
      tokens.push(tokenId);
    }
    return tokens;
  }

  test('an opened document answers as the one that was read, in another model too', async () => {
    const text = prose(500);
    await using read = await model().readDocument(text, { selector: { denseBelow: 0, recentWindow: 64 } });
    const save = (name: string) => read.save(file(name));
    const [{ bytes }, , whileSaving] = await Promise.all([save('document'), save('again'), tokensOf(read)]);
    expect(bytes).toBeGreaterThan(read.heldBytes / 2);
    await using other = await loadModel(process.env.CTKVR_TEST_MODEL!, { numThreads: 1 });
    const opened = await other.openDocument(file('document'));
    const { numTokens } = read;
    expect([opened.text, opened.numTokens]).toEqual([text, numTokens]);
    expect(opened.reading).toMatchObject({ numTokens, numCachedTokens: numTokens, index: null });
    expect([opened.selector, opened.contextLength]).toEqual([read.selector, read.contextLength]);
    expect(opened.passages()).toEqual(read.passages());
    expect(await tokensOf(opened)).toEqual(whileSaving);
  });

  test('begin tells what was not read again, for a question and for the tokens of a prompt', async () => {
    await using document = await model().readDocument(prose(60));
    const begun = await document.begin(question);
    expect(begun.numCachedTokens).toBeGreaterThan(document.numTokens - 3);
    const same = await document.begin(begun.session.tokens);
    expect([same.session.tokens, same.numCachedTokens]).toEqual([begun.session.tokens, begun.numCachedTokens]);
    const other = await document.begin(Int32Array.from([1, 2, 3]));
    expect(other.session.tokens).toEqual(Int32Array.from([1, 2, 3]));
    await begun.session.close();
    await document.close();
    expect([same.session.isClosed, other.session.isClosed]).toEqual([true, true]);
    await expect(document.save(file('closed'))).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
  });

  test('passages are the text of the prompt, so many tokens each', async () => {
    const text = 'Frühling läßt sein blaues Band 🌷 wieder flattern durch die Lüfte. '.repeat(6);
    await using document = await model().readDocument(text);
    const passages = document.passages();
    expect(passages).toHaveLength(Math.ceil(document.numTokens / model().passageSize));
    expect(passages.join('')).toContain(text.trim());
    expect(passages.join('')).not.toContain('\ufffd');
  });

  test('its session can be taken, once nobody asks: it goes on behind the document', async () => {
    const document = await model().readDocument(prose(60));
    const asked = document.ask(question, { maxTokens: 4 });
    await asked.next();
    expect(() => document.takeSession()).toThrow(expect.objectContaining({ code: 'CTKVR_BUSY' }));
    await asked.return();
    const { numTokens } = document;
    await using session = document.takeSession();
    await expect(document.ask(question).next()).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    await document.close();
    expect(session.length).toBe(numTokens);
    await session.prefill(' And then');
    expect(session.length).toBeGreaterThan(numTokens);
  });

  test('a session that is no document, and another chat template, are refused with the reason', async () => {
    await using session = model().createSession({ contextLength: 64 });
    await session.prefill('A short text.');
    await session.save(file('session'));
    const refused = (field: string) => ({ code: 'CTKVR_BAD_SNAPSHOT', fields: { path: expect.any(String), field } });
    await expect(model().openDocument(file('session'))).rejects.toMatchObject(refused('document'));
    await using document = await model().readDocument('A short text.');
    await document.save(file('short'));
    await using other = await loadModel(process.env.CTKVR_TEST_MODEL!, {
      numThreads: 1,
      chatTemplate: '{% for m in messages %}{{ m.content }}{% endfor %}',
    });
    await expect(other.openDocument(file('short'))).rejects.toMatchObject(refused('chatTemplate'));
    await expect(model().openDocument(file('none'))).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND' });
    const asSession = await model().restoreSession(file('short'));
    expect(asSession.length).toBe(document.numTokens);
    await asSession.close();
  });
});
