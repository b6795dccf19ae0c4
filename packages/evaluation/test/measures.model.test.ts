/** The measures on a real model; needs CTKVR_TEST_MODEL (a GGUF file) and the native build. */
import { loadModel, type Model } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { denseReference, fitPrompt, measureFidelity, measureTurns, parseContender } from '../src/index.js';

const path = process.env.CTKVR_TEST_MODEL ?? '';
const reason = path === '' ? ' (skipped: CTKVR_TEST_MODEL names no GGUF file)' : '';
const text = Array.from({ length: 400 }, (_, i) => `Entry ${i}: the value is ${(i * 7919) % 1000}.`).join('\n');
const question = 'Which value has entry 7?';
const { signal } = new AbortController();
const contenders = (...labels: string[]) => labels.map(parseContender);

describe.skipIf(path === '')(`measures${reason}`, { timeout: 300_000 }, () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(path, { numThreads: 1 });
  });
  afterAll(async () => {
    await model?.close();
  });
  const prompt = (numTokens: number) => fitPrompt({ model, text, question, numTokens });

  it('a reference that keeps no distributions computes the same again', async () => {
    const { tokens } = await prompt(300);
    await using base = model.createSession({ contextLength: 320, selector: { method: 'full' } });
    await base.prefill(tokens, { buildIndex: false });
    const [kept, computed] = [
      await denseReference({ model, base, numSteps: 5, signal }),
      await denseReference({ model, base, numSteps: 5, signal, maxKeptBytes: 0 }),
    ];
    expect(computed.tokens).toEqual(kept.tokens);
    const again = computed.distributions();
    for await (const logits of kept.distributions()) expect((await again.next()).value).toEqual(logits);
    expect((await again.next()).done).toBe(true);
    expect(base.length).toBe(tokens.length);
  });

  it('the index grows during a generation as the session policy says, outside the time of the steps', async () => {
    const measure = await measureFidelity({
      model,
      prompt: await prompt(700),
      numSteps: 48,
      contenders: contenders(
        'full',
        'streaming:recentWindow=64',
        'ctkvr:recentWindow=64:numCentroids=128:appendSize=32:clusterProbes=2',
      ),
      indexBeforeQuestion: false,
      signal,
    });
    const [full, streaming, ctkvr] = measure.selectors;
    expect(full).toMatchObject({ denseStepShare: 1, indexUpdates: 0, indexBuildMs: 0 });
    expect(full!.meanKl).toBeLessThan(1e-6);
    expect(full!.attentionMass).toBeGreaterThan(0.999);
    // The region follows the window every 32 tokens, and so does an index that grows by as many.
    expect(streaming!.indexUpdates).toBeGreaterThanOrEqual(1);
    expect(streaming!.keysReadPerHead).toBeLessThan(16 + 64 + 33);
    expect(streaming!.klByStep.series).toHaveLength(48);
    expect(ctkvr!.indexUpdates).toBeGreaterThanOrEqual(1);
    expect(ctkvr!.denseStepShare).toBe(0);
    expect(ctkvr!.meanKl).toBeLessThan(streaming!.meanKl);
    expect(ctkvr!.massError).toBeLessThan(0.1);
  });

  it('the index is built before the question or after it, as asked', async () => {
    const measure = async (indexBeforeQuestion: boolean) =>
      await measureFidelity({
        model,
        prompt: await prompt(700),
        numSteps: 8,
        contenders: contenders('ctkvr:maxSelected=64:recentWindow=64:listLength=64:clusterProbes=2'),
        indexBeforeQuestion,
        signal,
      });
    const [before, after] = [(await measure(true)).selectors[0]!, (await measure(false)).selectors[0]!];
    for (const { meanKl } of [before, after]) expect(meanKl).toBeGreaterThan(0);
    expect(before.keysReadPerHead).not.toBe(after.keysReadPerHead);
  });

  it('the reference stays dense attention over f16, whatever the contenders keep', async () => {
    const measure = async (kvFormat: 'f16' | 'q8') =>
      await measureFidelity({
        model,
        prompt: await prompt(700),
        numSteps: 8,
        contenders: contenders('full'),
        kvFormat,
        indexBeforeQuestion: false,
        signal,
      });
    const [f16, q8] = [await measure('f16'), await measure('q8')];
    expect(q8.kvBytes).toBe((f16.kvBytes * 9) / 16);
    expect(q8.selectors[0]!.bytesReadPerToken).toBe((f16.selectors[0]!.bytesReadPerToken * 9) / 16);
    expect(f16.selectors[0]!.meanKl).toBeLessThan(1e-6);
    expect(q8.selectors[0]!.meanKl).toBeGreaterThan(1e-6);
    expect(q8.selectors[0]!.meanKl).toBeLessThan(0.05);
  });

  it('turns: the history is that of dense attention, for the living session and for the index built anew', async () => {
    const first = await prompt(700);
    const { turns } = await measureTurns({
      model,
      prompt: first,
      questions: [question, 'And which value has entry 90?'],
      numSteps: 12,
      contenders: contenders('full', 'ctkvr:recentWindow=64', 'streaming:recentWindow=64'),
      signal,
    });
    expect(turns.map(({ question: asked }) => asked)).toEqual([question, 'And which value has entry 90?']);
    expect(turns[0]!.tokens).toBe(first.tokens.length);
    expect(turns[1]!.tokens).toBeGreaterThan(turns[0]!.tokens + 12);
    for (const { selectors, answer } of turns) {
      expect(answer).not.toBe('');
      const [full, ctkvr, streaming] = selectors;
      for (const { meanKl } of [full!.inTurn, full!.atEnd]) expect(meanKl).toBeLessThan(1e-6);
      for (const situation of ['inTurn', 'atEnd'] as const) {
        expect(ctkvr![situation].meanKl).toBeLessThan(streaming![situation].meanKl);
      }
      expect(ctkvr!.inTurn.indexBytes).toBeGreaterThan(0);
    }
  });
});
