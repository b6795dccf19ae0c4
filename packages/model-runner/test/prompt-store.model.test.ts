/**
 * Prompts that leave the prefix cache go to disk, and come back: where another takes the memory, and after the model was closed. What begins from
 * them is what is read anew, to the bit. A damaged one is read anew.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadModel, type Model, type SelectorChoice } from '../src/index.js';
import { describeWithModel, prose } from './test-model.js';

const selectors: readonly SelectorChoice[] = [
  { method: 'ctkvr', denseBelow: 0, denseLayers: false, numSinkTokens: 4, recentWindow: 32, maxSelected: 48 },
  { method: 'full' },
];

async function answer(model: Model, tokens: Int32Array, selector: SelectorChoice, lookUp = true) {
  const options = { contextLength: 700, promptLength: tokens.length, selector, prefixCache: { lookUp } };
  await using session = await model.admitSession(options);
  const { numCachedTokens } = await session.prefill(tokens);
  const distributions: Buffer[] = [];
  for await (const event of session.generate({ maxTokens: 8, logits: true, ignoreEndOfTurn: true })) {
    distributions.push(Buffer.from(event.logits!.buffer.slice(0)));
  }
  return { distributions, numCachedTokens };
}

describeWithModel('prompts on disk', (model) => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ctkvr-prompts-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** With memory for the prompt read last alone. */
  const load = () =>
    loadModel(model().info.path, {
      numThreads: 1,
      contextLength: 1024,
      prefixCacheBytes: 50_000_000,
      promptStore: { folder, maxBytes: 1e9 },
    });
  const snapshots = () => readdirSync(folder).filter((name) => name.endsWith('.ctkvr'));

  it.each(selectors)('give the same bits as reading anew: $method', async (selector) => {
    const text = await model().tokenize(prose(6000));
    const [first, second] = [text.subarray(0, 600), text.subarray(600, 1200)];
    const next = Int32Array.from([...first, ...text.subarray(1200, 1240)]);
    const anew = await answer(model(), next, selector, false);
    {
      await using loaded = await load();
      for (const prompt of [first, second]) expect((await answer(loaded, prompt, selector)).numCachedTokens).toBe(0);
      expect(loaded.prefixCacheUsage.numPrefixes).toBe(1);
      const again = await answer(loaded, next, selector);
      expect(again.numCachedTokens).toBeGreaterThan(500);
      expect(again.distributions.map((one, i) => one.equals(anew.distributions[i]!))).not.toContain(false);
    }
    {
      await using loaded = await load();
      const later = await answer(loaded, next, selector);
      expect(later.numCachedTokens).toBeGreaterThan(500);
      expect(later.distributions.map((one, i) => one.equals(anew.distributions[i]!))).not.toContain(false);
    }
    for (const name of snapshots()) {
      const bytes = readFileSync(join(folder, name));
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(join(folder, name), bytes);
    }
    await using loaded = await load();
    const damaged = await answer(loaded, next, selector);
    expect(damaged.numCachedTokens).toBe(0);
    expect(damaged.distributions.map((one, i) => one.equals(anew.distributions[i]!))).not.toContain(false);
    expect(readdirSync(join(folder, 'quarantine'))).toHaveLength(1);
  });

  it('are of one model, context and use: others read anew', async () => {
    const tokens = (await model().tokenize(prose(4000))).subarray(0, 400);
    const selector: SelectorChoice = { method: 'full' };
    {
      await using loaded = await load();
      await answer(loaded, tokens, selector);
    }
    expect(snapshots()).toHaveLength(1);
    {
      await using loaded = await load();
      expect((await answer(loaded, tokens, { method: 'streaming' })).numCachedTokens).toBe(0);
      expect((await answer(loaded, tokens, selector)).numCachedTokens).toBe(399);
    }
    await using other = await loadModel(model().info.path, {
      numThreads: 1,
      contextLength: 900,
      promptStore: { folder },
    });
    expect((await answer(other, tokens, selector)).numCachedTokens).toBe(0);
  });
});
