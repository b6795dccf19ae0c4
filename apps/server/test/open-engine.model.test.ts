/** An engine of this process and its end. Needs CTKVR_TEST_MODEL and the native build. */
import { describe, expect, test, vi } from 'vitest';
import { openEngine } from '../src/open-engine.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `An engine${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

describe.skipIf(!modelPath)(title, () => {
  test('whose sessions cannot be saved at its end says so, and frees the model', async () => {
    const settings = { modelId: 'test-model', contextLength: 512 };
    const { engine, close } = await openEngine(modelPath!, settings, { numThreads: 1 }, () => {});
    expect((await engine.text.tokenize('one', { addSpecial: false, parseSpecial: false })).length).toBe(1);
    vi.spyOn(engine.sessions!, 'close').mockRejectedValue(new Error('no disk'));
    await expect(close()).rejects.toThrow('no disk');
    const tokens = engine.text.tokenize('one', { addSpecial: false, parseSpecial: false });
    await expect(tokens).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
  });
});
