/** A long document after a restart: another instance of the model restores what this one has read. Prints what both take; asserts no times. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { documentKey, loadModel, type Model, type ReadDocument, SnapshotStore } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

describeWithModel('a restart', (model) => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ctkvr-restart-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  /** Of a greedy answer: its tokens, and milliseconds to the first. */
  async function answerOf(document: ReadDocument): Promise<{ tokens: number[]; firstMs: number }> {
    const startedAt = performance.now();
    const tokens: number[] = [];
    let firstMs = 0;
    for await (const { tokenId } of document.ask('Who watched the harbour?', { maxTokens: 24, sampling: {} })) {
      if (tokens.length === 0) firstMs = performance.now() - startedAt;
      tokens.push(tokenId);
    }
    return { tokens, firstMs };
  }

  /** What a program does at its start. */
  async function openOrRead(of: Model, text: string): Promise<ReadDocument> {
    const store = new SnapshotStore({ folder });
    const key = documentKey({ model: of, text });
    const opened = await store.open(key, (path) => of.openDocument(path));
    if (opened !== null) return opened;
    const document = await of.readDocument(text);
    const about = { name: 'prose', modelName: of.info.name ?? '', numTokens: document.numTokens };
    await store.save(key, about, (path) => document.save(path));
    return document;
  }

  test('gives the same greedy answer, with every token of the document restored', { timeout: 1_800_000 }, async () => {
    // Some 16,000 tokens where the model has room for them; 1,350 for the small one, which runs with every change.
    const text = prose(model().info.trainedContext > 20_000 ? 12_000 : 1_000);
    const startedAt = performance.now();
    await using read = await openOrRead(model(), text);
    const readMs = performance.now() - startedAt;
    const before = await answerOf(read);
    expect(read.reading.numCachedTokens).toBe(0);

    const restartedAt = performance.now();
    await using again = await loadModel(process.env.CTKVR_TEST_MODEL!, { numThreads: 1 });
    const loadedAt = performance.now();
    const restored = await openOrRead(again, text);
    const restoreMs = performance.now() - loadedAt;
    const after = await answerOf(restored);
    expect(restored.reading.numCachedTokens).toBe(read.numTokens);
    expect(after.tokens).toEqual(before.tokens);
    const share = ((100 * (restoreMs + after.firstMs)) / (readMs + before.firstMs)).toFixed(1);
    process.stderr.write(
      `${read.numTokens} tokens read, indexed and saved in ${Math.round(readMs)} ms; after a restart: model loaded in ` +
        `${Math.round(loadedAt - restartedAt)} ms, restored in ${Math.round(restoreMs)} ms, first token ${Math.round(after.firstMs)} ms later: ${share} %\n`,
    );
  });
});
